//! `[dashboard]`: where pages and the metrics of `dividend settle` are served.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

use crate::check::Check;
use crate::read::{Section, listener};

/// The dashboard's listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dashboard {
    /// Where it listens; port 0 takes a free one.
    #[serde(deserialize_with = "listener")]
    pub listen: SocketAddr,
}

impl Default for Dashboard {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7412)) }
    }
}

impl Section for Dashboard {
    const NAME: &'static str = "dashboard";

    fn check(&self, _: &mut Check<'_>) {}
}
