//! Limits of one engine.

use crate::EngineError;

/// Limits of one engine. All have defaults: `EngineOptions { queue: 16, ..EngineOptions::default() }`.
///
/// The number of compute threads is not among them: candle keeps one pool for the whole process, of
/// `CANDLE_NUM_THREADS` threads (environment, read once; default: one per physical core).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Requests computed at the same time, each with its own KV cache; 1 to 256. Memory is bounded by
    /// `max_sequences × context_length × ModelInfo::kv_bytes_per_token`.
    pub max_sequences: usize,
    /// Requests that may wait for a free sequence; 0 to 65,536. The next one is refused with `QueueFull`.
    pub queue: usize,
    /// Prompt tokens computed in one step, between the decode steps of the others; 1 to 4,096. Smaller
    /// chunks keep the other streams smoother, larger ones read the prompt faster.
    pub prefill_chunk: usize,
    /// Upper bound of the context, in tokens, below what the model and the backend allow; `None` for all
    /// they allow.
    pub context_cap: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { max_sequences: 8, queue: 64, prefill_chunk: 64, context_cap: None }
    }
}

impl EngineOptions {
    /// Refuses values that no engine can honour.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        within("max_sequences", self.max_sequences, 1, 256, "from 1 to 256")?;
        within("queue", self.queue, 0, 65_536, "from 0 to 65536")?;
        within("prefill_chunk", self.prefill_chunk, 1, 4_096, "from 1 to 4096")?;
        if let Some(cap) = self.context_cap {
            within("context_cap", cap, 2, usize::MAX, "at least 2")?;
        }
        Ok(())
    }
}

fn within(
    option: &'static str,
    found: usize,
    low: usize,
    high: usize,
    expected: &'static str,
) -> Result<(), EngineError> {
    if (low..=high).contains(&found) { Ok(()) } else { Err(EngineError::Option { option, found, expected }) }
}
