//! `[log]`: how much is logged, and in which form.

use serde::Deserialize;

use crate::check::Check;
use crate::read::Section;

/// Logs, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// `tracing` filter, such as `info` or `info,dividend_meter=debug`.
    pub filter: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

impl Section for Log {
    const NAME: &'static str = "log";

    fn check(&self, check: &mut Check<'_>) {
        if self.filter.trim().is_empty() {
            check.refuse("filter", "\"\"", "is empty".to_owned(), "give a level such as \"info\"".to_owned());
        }
    }
}
