//! `[limits]`: what a key may do unless it has limits of its own.

use serde::Deserialize;

use crate::check::Check;
use crate::read::Section;

/// What a key may do unless it has limits of its own. Read again whenever the file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls begun per minute.
    pub requests_per_minute: u32,
    /// Tokens per minute, prompt and answer together.
    pub tokens_per_minute: u64,
    /// Calls in flight at once.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_minute: 600, tokens_per_minute: 200_000, concurrency: 32 }
    }
}

impl Section for Limits {
    const NAME: &'static str = "limits";

    fn check(&self, check: &mut Check<'_>) {
        check.between("requests_per_minute", self.requests_per_minute.into(), 1, 10_000_000);
        check.between("tokens_per_minute", self.tokens_per_minute, 1, 1_000_000_000_000);
        check.between("concurrency", self.concurrency.into(), 1, 65_536);
    }
}
