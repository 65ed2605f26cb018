//! `[engine]`: how many threads, sequences and tokens inference may use.

use std::path::PathBuf;

use serde::Deserialize;

use crate::check::Check;
use crate::read::Section;

/// Inference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// What computes.
    pub backend: EngineBackend,
    /// Threads that compute; 0 takes one per core.
    pub threads: u32,
    /// Sequences decoded at once, per model.
    pub max_sequences: u32,
    /// Calls that may wait for a sequence, per model.
    pub queue_calls: u32,
    /// Size of the KV cache in tokens of all sequences together, per model: the limit of the memory that calls take.
    pub kv_tokens: u64,
    /// The same limit in bytes, in place of `kv_tokens`.
    pub kv_bytes: Option<u64>,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Whose earlier prompts a call may begin with, so that what they have in common is not computed again.
    pub prefix_sharing: PrefixSharing,
    /// Memory that adapters may take, per model; the longest unused are dropped to make room.
    pub adapter_bytes: u64,
    /// Longest prompt and answer together; a model's own context may be shorter.
    pub max_context_tokens: u32,
    /// Prompt tokens computed in one step at most.
    pub prefill_chunk_tokens: u32,
    /// How long a step may take while answers are under way: prompts then get as many tokens of it as fit. 0 for whole
    /// chunks always.
    pub inter_token_target_ms: u64,
    /// Where `<digest>.gguf` files are; `artifacts/` of the home if not given.
    pub artifacts_dir: Option<PathBuf>,
}

/// What computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineBackend {
    /// Own kernels, for the families and formats that they know; candle for the others.
    Packed,
    /// candle always.
    Candle,
}

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    /// Half precision.
    F16,
    /// Single precision: twice the memory, and other roundings.
    F32,
}

/// Who may begin with what the KV cache holds of others' prompts. A prompt that begins as an earlier one is answered
/// sooner, and whoever measures that learns that somebody has asked alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixSharing {
    /// Everybody.
    All,
    /// Only calls of one payer among themselves.
    Payer,
    /// Nobody.
    Off,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            backend: EngineBackend::Packed,
            threads: 0,
            max_sequences: 16,
            queue_calls: 256,
            kv_tokens: 32_768,
            kv_bytes: None,
            kv_type: KvType::F16,
            prefix_sharing: PrefixSharing::Payer,
            adapter_bytes: 512 << 20,
            max_context_tokens: 2_048,
            prefill_chunk_tokens: 256,
            inter_token_target_ms: 50,
            artifacts_dir: None,
        }
    }
}

impl Section for Engine {
    const NAME: &'static str = "engine";

    fn check(&self, check: &mut Check<'_>) {
        check.between("threads", self.threads.into(), 0, 256);
        check.between("max_sequences", self.max_sequences.into(), 1, 256);
        check.between("queue_calls", self.queue_calls.into(), 0, 65_536);
        check.between("kv_tokens", self.kv_tokens, 16, 1 << 28);
        if let Some(bytes) = self.kv_bytes {
            check.between("kv_bytes", bytes, 1 << 16, 1 << 44);
        }
        check.between("adapter_bytes", self.adapter_bytes, 0, 1 << 46);
        check.between("inter_token_target_ms", self.inter_token_target_ms, 0, 60_000);
        check.between("max_context_tokens", self.max_context_tokens.into(), 16, 1 << 20);
        check.between("prefill_chunk_tokens", self.prefill_chunk_tokens.into(), 1, 4_096);
    }
}
