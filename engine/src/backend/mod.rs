//! What computes logits.

pub(crate) mod candle;
mod repack;

use crate::GenerationError;

/// A loaded model and the KV caches of its sequences. One scheduling thread owns it.
pub(crate) trait Backend: Send {
    /// Label for people and metrics.
    fn name(&self) -> &'static str;

    /// The longest context that it can compute, in tokens.
    fn context_length(&self) -> usize;

    /// KV cache of one token of one sequence, in bytes.
    fn kv_bytes_per_token(&self) -> u64;

    /// A new sequence that will begin with `tokens` (at least one), and how many of them are computed already because
    /// another sequence began alike; always fewer than all.
    fn open(&mut self, tokens: &[u32]) -> (SequenceId, usize);

    /// Forgets a sequence and frees its cache.
    fn close(&mut self, sequence: SequenceId);

    /// Appends every chunk to its sequence, all in one pass, and answers for each chunk in order: the logits after its
    /// last token (one per token id) if it asks for them. A sequence whose chunk failed must be closed.
    ///
    /// # Errors
    /// [`CacheFull`]: nothing was computed.
    fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<Outcome>, CacheFull>;
}

/// A sequence of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SequenceId(pub(crate) u64);

/// Tokens to append to a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) sequence: SequenceId,
    /// At least one.
    pub(crate) tokens: &'a [u32],
    /// Whether the logits after the last token are wanted.
    pub(crate) logits: bool,
}

/// What became of a chunk.
pub(crate) type Outcome = Result<Option<Vec<f32>>, GenerationError>;

/// The KV cache has no room for the chunks; closing a sequence makes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheFull;
