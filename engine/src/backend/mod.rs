//! What computes logits.

pub(crate) mod candle;
mod packed;

use std::path::Path;

use crate::gguf::Gguf;
use crate::options::BackendKind;
pub(crate) use crate::packed::{AdapterBase, Chunk, KvUse, Scope, SequenceId};
use crate::{Adapter, EngineError, EngineOptions, GenerationError};
use candle::Candle;
use packed::Packed;

/// Refuses a model of a family that no backend knows, before anything else that such a file lacks is complained of.
pub(crate) fn check_family(gguf: &Gguf) -> Result<(), EngineError> {
    Candle::check_architecture(gguf)
}

/// Loads the model at `path`, whose header is `gguf`, for a tokenizer of `vocabulary` tokens. What the packed kernels do
/// not know goes to candle, if that does. Threads tell `packed` of each piece of a tensor that is ready, in bytes.
pub(crate) fn load(
    path: &Path,
    gguf: &Gguf,
    vocabulary: usize,
    options: &EngineOptions,
    packed: &(dyn Fn(u64) + Sync),
) -> Result<Box<dyn Backend>, EngineError> {
    if options.backend == BackendKind::Packed {
        match options.packed(gguf).and_then(|options| Packed::load(path, gguf, vocabulary, options, packed)) {
            Err(EngineError::Unsupported { what, found, .. }) if Candle::check_architecture(gguf).is_ok() => {
                tracing::info!(%what, %found, "no packed kernels for this model: candle computes it");
            }
            loaded => return Ok(Box::new(loaded?)),
        }
    }
    let context_cap = options.context_cap.unwrap_or(usize::MAX);
    Ok(Box::new(Candle::load(path, gguf, vocabulary, context_cap)?))
}

/// A loaded model and the KV caches of its sequences. One scheduling thread owns it.
pub(crate) trait Backend: Send {
    /// Label for people and metrics.
    fn name(&self) -> &'static str;

    /// The longest context that it can compute, in tokens.
    fn context_length(&self) -> usize;

    /// Memory of the weights, in bytes.
    fn weight_bytes(&self) -> u64;

    /// KV cache of one token of one sequence, in bytes.
    fn kv_bytes_per_token(&self) -> u64;

    /// How full the KV cache is; `None` if it is not bounded.
    fn kv(&self) -> Option<KvUse> {
        None
    }

    /// True if results are the same to the bit wherever a prompt is cut into chunks.
    fn cuts_exactly(&self) -> bool {
        false
    }

    /// What adapters must fit; `None` if it has none.
    fn adapter_base(&self) -> Option<AdapterBase> {
        None
    }

    /// A new sequence that will begin with `tokens` (at least one), and how many of them are computed already because
    /// another sequence of the same scope and adapter began alike; always fewer than all. The adapter fits `adapter_base`.
    fn open(&mut self, tokens: &[u32], scope: Scope, adapter: Option<&Adapter>) -> (SequenceId, usize);

    /// Forgets a sequence and frees its cache.
    fn close(&mut self, sequence: SequenceId);

    /// Appends every chunk to its sequence, all in one pass, and answers for each chunk in order: the logits after its
    /// last token (one per token id) if it asks for them. A sequence whose chunk failed must be closed.
    ///
    /// # Errors
    /// [`CacheFull`]: nothing was computed.
    fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<Outcome>, CacheFull>;
}

/// What became of a chunk.
pub(crate) type Outcome = Result<Option<Vec<f32>>, GenerationError>;

/// The KV cache has no room for the chunks; closing a sequence makes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheFull;
