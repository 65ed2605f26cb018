//! `endpoints.json`: where the parts of a stack answer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Ports;
use crate::failure::Failure;
use crate::home::{self, Home};

/// URLs, contracts and the demo key of a running stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// The API of `serve`.
    pub(crate) api: String,
    /// The admin API of `serve`.
    pub(crate) admin: String,
    /// The dashboard, with the admin API of `settle`.
    pub(crate) dashboard: String,
    /// The chain's RPC.
    pub(crate) rpc: String,
    /// Redis.
    pub(crate) redis: String,
    /// Contract name → address.
    pub(crate) contracts: BTreeMap<String, String>,
    /// File with an API key that has credit.
    pub(crate) demo_key_file: PathBuf,
}

impl Endpoints {
    pub(super) fn new(home: &Home, ports: Ports, contracts: BTreeMap<String, String>) -> Self {
        Self {
            api: Self::http(ports.api),
            admin: Self::http(ports.admin),
            dashboard: Self::http(ports.dashboard),
            rpc: Self::http(ports.rpc),
            redis: Self::redis(ports.redis),
            contracts,
            demo_key_file: home.demo_key(),
        }
    }

    pub(super) fn http(port: u16) -> String {
        format!("http://{}", Ports::address(port))
    }

    pub(super) fn redis(port: u16) -> String {
        format!("redis://{}", Ports::address(port))
    }

    /// Those of the stack that runs in `home`.
    ///
    /// # Errors
    /// A [`Failure`] if none runs there.
    pub(crate) fn of(home: &Home) -> anyhow::Result<Self> {
        home::read_json(&home.endpoints())?.ok_or_else(|| {
            let root = home.root().display();
            let message = format!("no stack runs in {root}");
            Failure::new(message, format!("start one: dividend up --home {root}")).into()
        })
    }

    /// As a person reads them.
    pub(crate) fn table(&self) -> String {
        let urls = [
            ("api", &self.api),
            ("admin", &self.admin),
            ("dashboard", &self.dashboard),
            ("rpc", &self.rpc),
            ("redis", &self.redis),
        ];
        let text = urls.iter().fold(String::new(), |text, (name, url)| format!("{text}{name:<10} {url}\n"));
        format!("{text}{:<10} {}", "demo key", self.demo_key_file.display())
    }
}
