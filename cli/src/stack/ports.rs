//! The stack's five ports: a block from a base, or free ones that stay with the home.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::home::{self, Home};

/// Free ports are sought below the range from which kernels take client ports, so that none is lost to an outgoing
/// connection while a child restarts.
const FREE_FROM: u16 = 10_000;
const FREE_TO: u16 = 32_000;
const ATTEMPTS: usize = 200;

/// One port per listener, all on the loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// The API of `serve`.
    pub(crate) api: u16,
    /// The admin API of `serve`.
    pub(crate) admin: u16,
    /// The dashboard, with the admin API of `settle`.
    pub(crate) dashboard: u16,
    /// The chain's RPC.
    pub(crate) rpc: u16,
    /// Redis.
    pub(crate) redis: u16,
}

impl Ports {
    /// `base` and the four above it, or with base 0 the ports that this home had before, or other free ones. The choice
    /// is kept in the home.
    pub(crate) fn choose(home: &Home, base: u16) -> anyhow::Result<Self> {
        let kept = home.path("ports.json");
        let ports = match base {
            0 => match home::read_json::<Self>(&kept)?.filter(|ports| ports.taken().is_none()) {
                Some(ports) => ports,
                None => Self::free()?,
            },
            base => Self::from_base(base)?,
        };
        home::write_json(&kept, &ports)?;
        Ok(ports)
    }

    /// The address of a port.
    pub(crate) fn address(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn from_base(base: u16) -> anyhow::Result<Self> {
        let Some(ports) = Self::block(base) else {
            let message = format!("--ports {base} has no room for five ports");
            return Err(Failure::usage(message, "give a base of 1 to 65531, or 0 for free ports").into());
        };
        match ports.taken() {
            None => Ok(ports),
            Some((name, port)) => Err(Failure::new(
                format!("port {port} ({name}) is taken"),
                "stop what listens there, or choose other ports with --ports BASE or --ports 0",
            )
            .into()),
        }
    }

    fn block(base: u16) -> Option<Self> {
        let at = |offset| base.checked_add(offset);
        Some(Self { api: base, admin: at(1)?, dashboard: at(2)?, rpc: at(3)?, redis: at(4)? })
    }

    fn free() -> anyhow::Result<Self> {
        for _ in 0..ATTEMPTS {
            let mut random = [0; 2];
            getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let base = FREE_FROM + u16::from_le_bytes(random) % (FREE_TO - FREE_FROM);
            if let Some(ports) = Self::block(base).filter(|ports| ports.taken().is_none()) {
                return Ok(ports);
            }
        }
        let message = format!("no five free ports in a row between {FREE_FROM} and {FREE_TO}");
        Err(Failure::new(message, "stop other listeners, or choose ports with --ports BASE").into())
    }

    /// The first port that somebody listens on.
    fn taken(&self) -> Option<(&'static str, u16)> {
        let named = [
            ("api", self.api),
            ("admin", self.admin),
            ("dashboard", self.dashboard),
            ("rpc", self.rpc),
            ("redis", self.redis),
        ];
        named.into_iter().find(|(_, port)| TcpListener::bind(Self::address(*port)).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path()).unwrap().create().unwrap();
        (folder, home)
    }

    #[test]
    fn free_ports_stay_with_the_home_while_they_are_free() {
        let (_folder, home) = home();
        let first = Ports::choose(&home, 0).unwrap();
        assert_eq!(Ports::choose(&home, 0).unwrap(), first);
        let _occupied = TcpListener::bind(Ports::address(first.rpc)).unwrap();
        assert_ne!(Ports::choose(&home, 0).unwrap(), first);
    }

    #[test]
    fn a_taken_port_is_named() {
        let (_folder, home) = home();
        let ports = Ports::free().unwrap();
        let _occupied = TcpListener::bind(Ports::address(ports.dashboard)).unwrap();
        let error = Ports::choose(&home, ports.api).unwrap_err().to_string();
        assert_eq!(error, format!("port {} (dashboard) is taken", ports.dashboard));
    }

    #[test]
    fn a_base_needs_room_for_all() {
        let (_folder, home) = home();
        assert!(Ports::choose(&home, 65_532).unwrap_err().to_string().contains("65532"));
    }
}
