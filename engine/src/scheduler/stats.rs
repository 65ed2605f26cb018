//! What the scheduler did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::histogram::{Histogram, Spans};
use crate::SubmitError;
use crate::backend::KvUse;

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
    /// Blocks of the KV cache that requests being computed hold.
    pub kv_blocks_used: usize,
    /// Blocks of the KV cache that nobody holds, but which are kept because a prompt may begin with them.
    pub kv_blocks_cached: usize,
    /// Blocks of the KV cache in all; 0 if the backend has none.
    pub kv_blocks_total: usize,
    /// Prompt tokens that the latest step had room for.
    pub prefill_budget: usize,
    /// Steps: passes of the model.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Prompt tokens that were in the KV cache when their request was begun, and not computed for it.
    pub cached_prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Time spent computing prompts.
    pub prefill_time: Duration,
    /// Time spent generating.
    pub decode_time: Duration,
    /// From a request's arrival until it is begun.
    pub queue_wait: Histogram,
    /// From a request's arrival until its first token.
    pub time_to_first_token: Histogram,
    /// From one token of an answer to its next.
    pub inter_token: Histogram,
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
    /// Requests whose deadline passed while they waited.
    pub expired_waiting: u64,
    /// Requests whose deadline passed while they were computed.
    pub expired_running: u64,
    /// Requests that were not taken.
    pub refused: Refused,
}

/// Requests that were not taken, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// Too many wait.
    pub queue_full: u64,
    /// Prompt and answer do not fit the context.
    pub too_long: u64,
    /// A field is out of range.
    pub invalid: u64,
    /// The deadline had passed on arrival.
    pub late: u64,
    /// The engine is out of service.
    pub unhealthy: u64,
}

/// The worker's counters, read by others at any time.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) kv_blocks_used: AtomicU64,
    pub(crate) kv_blocks_cached: AtomicU64,
    pub(crate) kv_blocks_total: AtomicU64,
    pub(crate) prefill_budget: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_prompt_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    pub(crate) prefill_nanos: AtomicU64,
    pub(crate) decode_nanos: AtomicU64,
    pub(crate) queue_wait: Spans,
    pub(crate) time_to_first_token: Spans,
    pub(crate) inter_token: Spans,
    pub(crate) finished: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) preempted: AtomicU64,
    pub(crate) expired_waiting: AtomicU64,
    pub(crate) expired_running: AtomicU64,
    queue_full: AtomicU64,
    too_long: AtomicU64,
    invalid: AtomicU64,
    late: AtomicU64,
    unhealthy: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self, queued: usize, active: usize, max_sequences: usize) -> EngineStats {
        let gauge = |gauge: &AtomicU64| gauge.load(Relaxed) as usize;
        EngineStats {
            queued,
            active,
            max_sequences,
            kv_blocks_used: gauge(&self.kv_blocks_used),
            kv_blocks_cached: gauge(&self.kv_blocks_cached),
            kv_blocks_total: gauge(&self.kv_blocks_total),
            prefill_budget: gauge(&self.prefill_budget),
            steps: self.steps.load(Relaxed),
            prompt_tokens: self.prompt_tokens.load(Relaxed),
            cached_prompt_tokens: self.cached_prompt_tokens.load(Relaxed),
            generated_tokens: self.generated_tokens.load(Relaxed),
            prefill_time: Duration::from_nanos(self.prefill_nanos.load(Relaxed)),
            decode_time: Duration::from_nanos(self.decode_nanos.load(Relaxed)),
            queue_wait: self.queue_wait.snapshot(),
            time_to_first_token: self.time_to_first_token.snapshot(),
            inter_token: self.inter_token.snapshot(),
            finished: self.finished.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            panics: self.panics.load(Relaxed),
            preempted: self.preempted.load(Relaxed),
            expired_waiting: self.expired_waiting.load(Relaxed),
            expired_running: self.expired_running.load(Relaxed),
            refused: Refused {
                queue_full: self.queue_full.load(Relaxed),
                too_long: self.too_long.load(Relaxed),
                invalid: self.invalid.load(Relaxed),
                late: self.late.load(Relaxed),
                unhealthy: self.unhealthy.load(Relaxed),
            },
        }
    }

    /// Counts a request that was not taken.
    pub(super) fn refused(&self, reason: &SubmitError) {
        let counter = match reason {
            SubmitError::QueueFull { .. } => &self.queue_full,
            SubmitError::PromptTooLong { .. } | SubmitError::InputTooLong { .. } => &self.too_long,
            SubmitError::Invalid { .. } => &self.invalid,
            SubmitError::Late => &self.late,
            SubmitError::Unhealthy { .. } => &self.unhealthy,
        };
        add(counter, 1);
    }

    /// Notes how full the KV cache is.
    pub(super) fn note_kv(&self, kv: KvUse) {
        self.kv_blocks_used.store((kv.blocks - kv.available) as u64, Relaxed);
        self.kv_blocks_cached.store(kv.cached as u64, Relaxed);
        self.kv_blocks_total.store(kv.blocks as u64, Relaxed);
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
