//! `[redis]`: where the aggregate is kept.

use serde::Deserialize;

use crate::check::Check;
use crate::read::Section;

/// The Redis that holds the aggregate. Without a URL the aggregate is kept in memory and rebuilt from the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port` or `redis+unix:///path`.
    pub url: Option<String>,
}

impl Section for Redis {
    const NAME: &'static str = "redis";

    fn check(&self, check: &mut Check<'_>) {
        if let Some(url) = &self.url {
            match url.strip_prefix("redis+unix:///") {
                Some(path) if !path.is_empty() => {}
                _ => check.url("url", url, &["redis"]),
            }
        }
    }
}
