//! Limits of one engine.

use std::thread::available_parallelism;

use crate::EngineError;
use crate::packed::{KvType, Options, POSITIONS};

/// What computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendKind {
    /// Own kernels, for the families and formats that they know; candle for the others.
    #[default]
    Packed,
    /// candle always.
    Candle,
}

/// Limits of one engine. All have defaults: `EngineOptions { queue: 16, ..EngineOptions::default() }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// What computes.
    pub backend: BackendKind,
    /// Threads that compute; 0 for one per core, up to 256. candle has one pool for the whole process instead, of
    /// `CANDLE_NUM_THREADS` threads (environment, read once).
    pub threads: usize,
    /// Memory of the packed backend's KV cache, in tokens of all sequences together; 16 to 2^32. When it is full, the least
    /// urgent request waits, and is computed again later.
    pub kv_tokens: usize,
    /// Memory that adapters may take, in bytes, those that only running requests still hold included; up to 2^46. The
    /// longest unused are dropped to make room, and read again when they are asked for.
    pub adapter_bytes: usize,
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
        Self {
            backend: BackendKind::default(),
            threads: 0,
            kv_tokens: 16_384,
            adapter_bytes: 512 << 20,
            max_sequences: 8,
            queue: 64,
            prefill_chunk: 64,
            context_cap: None,
        }
    }
}

impl EngineOptions {
    /// The packed backend's part.
    pub(crate) fn packed(&self) -> Options {
        let cores = available_parallelism().map_or(1, usize::from).min(256);
        Options {
            threads: if self.threads == 0 { cores } else { self.threads },
            isa: None,
            kv_blocks: self.kv_tokens / POSITIONS,
            kv_type: KvType::F16,
            context_cap: self.context_cap.unwrap_or(usize::MAX),
        }
    }

    /// Refuses values that no engine can honour.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        within("threads", self.threads, 0, 256, "from 0 to 256")?;
        within("kv_tokens", self.kv_tokens, POSITIONS, 1 << 32, "from 16 to 2^32")?;
        within("adapter_bytes", self.adapter_bytes, 0, 1 << 46, "from 0 to 2^46")?;
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
