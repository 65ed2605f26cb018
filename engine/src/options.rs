//! Limits of one engine.

use std::thread::available_parallelism;
use std::time::Duration;

use crate::EngineError;
use crate::gguf::Gguf;
use crate::packed::{KvType, Options, POSITIONS, Scope, kv_bytes_per_token};

/// As many as the packed backend has numbers for, in blocks.
const MAX_KV_TOKENS: usize = 1 << 28;

/// What computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendKind {
    /// Own kernels, for the families and formats that they know; candle for the others.
    #[default]
    Packed,
    /// candle always.
    Candle,
}

/// Who may begin with what the KV cache holds of others' prompts. A prompt that begins as an earlier one is answered sooner,
/// and whoever measures that learns that somebody has asked alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixSharing {
    /// Everybody: fastest, for callers who trust each other.
    #[default]
    All,
    /// Only requests of one tenant among themselves.
    Tenant,
    /// Nobody, not even the same caller.
    Off,
}

impl PrefixSharing {
    /// Whose blocks a request of `tenant` may use.
    pub(crate) fn scope(self, tenant: Option<u64>) -> Scope {
        match self {
            Self::All => Scope::Shared(0),
            // Numbers of tenants begin after that of all who have none.
            Self::Tenant => Scope::Shared(tenant.map_or(0, |tenant| u128::from(tenant) + 1)),
            Self::Off => Scope::Private,
        }
    }
}

/// Limits of one engine. All have defaults: `EngineOptions { queue: 16, ..EngineOptions::default() }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// What computes.
    pub backend: BackendKind,
    /// Threads that compute; 0 for one per core, up to 256. candle has one pool for the whole process instead, of
    /// `CANDLE_NUM_THREADS` threads (environment, read once).
    pub threads: usize,
    /// Memory of the packed backend's KV cache, in tokens of all sequences together; 16 to 2^28. When it is full, the least
    /// urgent request waits, and is computed again later. Memory is taken from the system as it is used.
    pub kv_tokens: usize,
    /// The same in bytes, in place of `kv_tokens`: as many blocks of 16 tokens as fit, at least one.
    pub kv_bytes: Option<u64>,
    /// How the packed backend stores keys and values. Single precision takes twice the memory, and gives other roundings.
    pub kv_type: KvType,
    /// Who may begin with what the KV cache holds of others' prompts.
    pub prefix_sharing: PrefixSharing,
    /// Memory that adapters may take, in bytes, those that only running requests still hold included; up to 2^46. The
    /// longest unused are dropped to make room, and read again when they are asked for.
    pub adapter_bytes: usize,
    /// Requests computed at the same time, each with its own KV cache; 1 to 256. Memory is bounded by
    /// `max_sequences × context_length × ModelInfo::kv_bytes_per_token`.
    pub max_sequences: usize,
    /// Requests that may wait for a free sequence; 0 to 65,536. The next one is refused with `QueueFull`. So is that of a
    /// tenant who has eight times as many inside as there are free places: the last ninth is for others.
    pub queue: usize,
    /// Prompt tokens computed in one step at most; 1 to 4,096. Smaller chunks keep the streams of others smoother and let
    /// newcomers in sooner, larger ones read the prompt faster.
    pub prefill_chunk: usize,
    /// How long a step may take while answers are under way, 1 ms to 1 min: it then has only as many prompt tokens as fit,
    /// by running estimates, from 16 to `prefill_chunk`. `None` for `prefill_chunk` always. Where answers depend on where a
    /// prompt is cut (candle), chunks are of a fixed size, 64 or `prefill_chunk` if that is less, and one is always taken.
    pub inter_token_target: Option<Duration>,
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
            kv_bytes: None,
            kv_type: KvType::F16,
            prefix_sharing: PrefixSharing::default(),
            adapter_bytes: 512 << 20,
            max_sequences: 8,
            queue: 64,
            prefill_chunk: 256,
            inter_token_target: Some(Duration::from_millis(50)),
            context_cap: None,
        }
    }
}

impl EngineOptions {
    /// The packed backend's part, for the model that `gguf` describes.
    pub(crate) fn packed(&self, gguf: &Gguf) -> Result<Options, EngineError> {
        let kv_blocks = match self.kv_bytes {
            None => self.kv_tokens / POSITIONS,
            Some(bytes) => blocks_within(bytes, kv_bytes_per_token(gguf, self.kv_type)?)?,
        };
        let cores = available_parallelism().map_or(1, usize::from).min(256);
        Ok(Options {
            threads: if self.threads == 0 { cores } else { self.threads },
            isa: None,
            kv_blocks,
            kv_type: self.kv_type,
            context_cap: self.context_cap.unwrap_or(usize::MAX),
        })
    }

    /// Refuses values that no engine can honour.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        within("threads", self.threads, 0, 256, "from 0 to 256")?;
        within("kv_tokens", self.kv_tokens, POSITIONS, MAX_KV_TOKENS, "from 16 to 2^28")?;
        within("adapter_bytes", self.adapter_bytes, 0, 1 << 46, "from 0 to 2^46")?;
        within("max_sequences", self.max_sequences, 1, 256, "from 1 to 256")?;
        within("queue", self.queue, 0, 65_536, "from 0 to 65536")?;
        within("prefill_chunk", self.prefill_chunk, 1, 4_096, "from 1 to 4096")?;
        if let Some(target) = self.inter_token_target {
            let millis = usize::try_from(target.as_millis()).unwrap_or(usize::MAX);
            within("inter_token_target", millis, 1, 60_000, "from 1 ms to 60000 ms")?;
        }
        if let Some(cap) = self.context_cap {
            within("context_cap", cap, 2, usize::MAX, "at least 2")?;
        }
        Ok(())
    }
}

/// Blocks of the KV cache that fit into so many bytes; no more than there can be tokens.
fn blocks_within(bytes: u64, bytes_per_token: u64) -> Result<usize, EngineError> {
    let block = bytes_per_token.saturating_mul(POSITIONS as u64).max(1);
    let blocks = usize::try_from(bytes / block).unwrap_or(usize::MAX).min(MAX_KV_TOKENS / POSITIONS);
    if blocks == 0 {
        let found = usize::try_from(bytes).unwrap_or(usize::MAX);
        let expected = "at least what 16 tokens of the model take: 16 times ModelInfo::kv_bytes_per_token";
        return Err(EngineError::Option { option: "kv_bytes", found, expected });
    }
    Ok(blocks)
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
