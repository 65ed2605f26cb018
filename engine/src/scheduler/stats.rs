//! What the scheduler did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Whether an engine can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All well.
    Ready,
    /// The last step failed; the engine goes on, and is ready again after the next step that succeeds.
    Degraded {
        /// Steps that failed in a row.
        failures: u32,
        /// The last failure.
        reason: String,
    },
    /// It failed too often in a row, or its scheduler died: it takes no requests any more.
    Failed {
        /// The last failure.
        reason: String,
    },
}

/// Load and counters of an engine. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Requests that wait.
    pub queued: usize,
    /// Requests being computed.
    pub active: usize,
    /// `EngineOptions::max_sequences`.
    pub max_sequences: usize,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Time spent computing prompts.
    pub prefill_time: Duration,
    /// Time spent generating.
    pub decode_time: Duration,
    /// Requests that finished.
    pub finished: u64,
    /// Requests whose reader left before the end.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Panics caught.
    pub panics: u64,
    /// Times that a request was set aside because the KV cache was full, to be computed again later.
    pub preempted: u64,
}

/// The worker's counters, read by others at any time.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    pub(crate) prefill_nanos: AtomicU64,
    pub(crate) decode_nanos: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) preempted: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self, queued: usize, active: usize, max_sequences: usize) -> EngineStats {
        EngineStats {
            queued,
            active,
            max_sequences,
            prompt_tokens: self.prompt_tokens.load(Relaxed),
            generated_tokens: self.generated_tokens.load(Relaxed),
            prefill_time: Duration::from_nanos(self.prefill_nanos.load(Relaxed)),
            decode_time: Duration::from_nanos(self.decode_nanos.load(Relaxed)),
            finished: self.finished.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            panics: self.panics.load(Relaxed),
            preempted: self.preempted.load(Relaxed),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

/// Adds a span of time to a counter of nanoseconds.
pub(super) fn add_time(counter: &AtomicU64, span: Duration) {
    add(counter, u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
}
