//! Limits of a payer: defaults from the settings, and what was set for one key.

use serde::{Deserialize, Serialize};

/// What a payer may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Calls begun per minute.
    pub requests_per_minute: u32,
    /// Prompt and answer tokens per minute.
    pub tokens_per_minute: u64,
    /// Calls in flight.
    pub concurrency: u32,
}

impl From<dividend_config::Limits> for Limits {
    fn from(section: dividend_config::Limits) -> Self {
        Self {
            requests_per_minute: section.requests_per_minute,
            tokens_per_minute: section.tokens_per_minute,
            concurrency: section.concurrency,
        }
    }
}

/// Limits set for one key; what is `None` follows the defaults, also when they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitOverrides {
    /// See [`Limits::requests_per_minute`].
    pub requests_per_minute: Option<u32>,
    /// See [`Limits::tokens_per_minute`].
    pub tokens_per_minute: Option<u64>,
    /// See [`Limits::concurrency`].
    pub concurrency: Option<u32>,
}

impl LimitOverrides {
    /// The limits in effect.
    pub fn over(&self, defaults: Limits) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute.unwrap_or(defaults.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.unwrap_or(defaults.tokens_per_minute),
            concurrency: self.concurrency.unwrap_or(defaults.concurrency),
        }
    }

    /// The name of a limit that is zero: a key that may do nothing is revoked instead.
    pub fn zero_field(&self) -> Option<&'static str> {
        [
            ("requests_per_minute", self.requests_per_minute == Some(0)),
            ("tokens_per_minute", self.tokens_per_minute == Some(0)),
            ("concurrency", self.concurrency == Some(0)),
        ]
        .into_iter()
        .find_map(|(name, zero)| zero.then_some(name))
    }
}
