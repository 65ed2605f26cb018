//! `[settlement]`: when sealed windows go on chain.

use serde::Deserialize;

use crate::check::Check;
use crate::read::Section;

/// When sealed windows go on chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settlement {
    /// Value waiting at which a batch is sent at once, in base units (µ$).
    pub batch_value_units: u64,
    /// Age of the oldest waiting value at which a batch is sent whatever its size.
    pub batch_age_ms: u64,
    /// Value below which a lane waits for the next batch, in base units (µ$).
    pub dust_units: u64,
    /// Rows of one batch; the gas cap may allow fewer.
    pub max_batch_rows: u32,
    /// Pause between two looks at the seals.
    pub poll_ms: u64,
}

impl Default for Settlement {
    fn default() -> Self {
        Self {
            batch_value_units: 1_000_000,
            batch_age_ms: 3_600_000,
            dust_units: 1,
            max_batch_rows: 200,
            poll_ms: 500,
        }
    }
}

impl Section for Settlement {
    const NAME: &'static str = "settlement";

    fn check(&self, check: &mut Check<'_>) {
        check.between("batch_value_units", self.batch_value_units, 1, u64::MAX);
        check.between("batch_age_ms", self.batch_age_ms, 0, 7 * 86_400_000);
        check.between("dust_units", self.dust_units, 0, self.batch_value_units);
        check.between("max_batch_rows", self.max_batch_rows.into(), 1, 500);
        check.between("poll_ms", self.poll_ms, 10, 600_000);
    }
}
