//! `[meter]`: the journal, its windows and its aggregate.

use serde::Deserialize;

use crate::check::Check;
use crate::read::Section;

/// Journal, windows and aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meter {
    /// Length of a settlement window.
    pub window_ms: u64,
    /// What the last chunk of a call waits for.
    pub durability: Durability,
    /// How often the group committer flushes the journal to the disk.
    pub sync_interval_ms: u64,
    /// Size at which the journal begins a new segment file.
    pub segment_bytes: u64,
    /// Calls in flight at once; each has a slot in the mapped file.
    pub slots: u32,
    /// How often running totals are folded into the aggregate.
    pub fold_interval_ms: u64,
}

/// What a call's last chunk waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// `write(2)` returned: the record survives the death of the process.
    Process,
    /// The record was flushed to the disk: it survives a power cut.
    Power,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            window_ms: 3_600_000,
            durability: Durability::Process,
            sync_interval_ms: 20,
            segment_bytes: 64 << 20,
            slots: 4_096,
            fold_interval_ms: 100,
        }
    }
}

impl Section for Meter {
    const NAME: &'static str = "meter";

    fn check(&self, check: &mut Check<'_>) {
        check.between("window_ms", self.window_ms, 100, 7 * 86_400_000);
        check.between("sync_interval_ms", self.sync_interval_ms, 1, 60_000);
        check.between("segment_bytes", self.segment_bytes, 64 << 10, 4 << 30);
        check.between("slots", self.slots.into(), 16, 1 << 20);
        check.between("fold_interval_ms", self.fold_interval_ms, 10, 60_000);
    }
}
