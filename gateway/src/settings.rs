//! The settings that the gateway acts on, all of which can change while it runs.

use dividend_config::{Gateway, Prices};

use crate::account::Limits;

/// One consistent set of settings. A call reads it once and keeps to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The gateway's own section. Its addresses and `max_connections` are read by the listeners at the start only.
    pub gateway: Gateway,
    /// What a payer may do that has no limits of its own.
    pub limits: Limits,
    /// What a token costs.
    pub prices: Prices,
    /// Age of the chain's snapshot beyond which no paid call is served, in milliseconds.
    pub max_snapshot_age_ms: u64,
}

impl From<&dividend_config::Settings> for Settings {
    fn from(settings: &dividend_config::Settings) -> Self {
        Self {
            gateway: settings.gateway.clone(),
            limits: settings.limits.into(),
            prices: settings.prices.clone(),
            max_snapshot_age_ms: settings.chain.max_snapshot_age_ms,
        }
    }
}
