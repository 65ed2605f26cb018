//! What computes logits.

pub(crate) mod candle;
mod repack;

/// A loaded model, ready to open sequences. One scheduling thread owns it.
pub(crate) trait Backend: Send {
    /// Label for people and metrics.
    fn name(&self) -> &'static str;

    /// The longest context that it can compute, in tokens.
    fn context_length(&self) -> usize;

    /// KV cache of one token of one sequence, in bytes.
    fn kv_bytes_per_token(&self) -> u64;

    /// An empty sequence. Weights are shared, the KV cache is its own.
    fn open(&self) -> Box<dyn Sequence>;
}

/// One sequence and its KV cache.
pub(crate) trait Sequence: Send {
    /// Appends `tokens` (at least one) and returns the logits after the last: one per token id. After an
    /// error or a panic the sequence must not be used again.
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String>;
}
