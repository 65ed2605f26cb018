//! Models computed with candle: slower than the packed kernels, but in every format that candle can read.
//!
//! The families that the packed kernels know are computed by [`dense`], from the same description of what they do: candle's
//! own models of some of them leave things out (Gemma 3's activation and windows, scaled rotations) or mix up sequences
//! that are read in pieces (Qwen 3, LFM2). llama, Phi-2 and GLM-4 are candle-transformers' own ([`library`]); its
//! mixture-of-experts models need a GPU.

mod checks;
mod dense;
mod library;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{Backend, CacheFull, Chunk, Outcome, Scope, SequenceId};
use crate::gguf::Gguf;
use crate::{Adapter, EngineError, GenerationError, turn};

/// Longest context, in tokens: what a sequence costs here grows with its square.
const MAX_CONTEXT: usize = 16_384;

/// A loaded model of a family that candle computes.
trait Family: Send {
    /// The longest context that it can compute, in tokens.
    fn context_length(&self) -> usize;

    /// KV cache of one token of one sequence, in bytes.
    fn kv_bytes_per_token(&self) -> u64;

    /// A new sequence.
    fn sequence(&self) -> Box<dyn Sequence>;
}

/// The state of one sequence.
trait Sequence: Send {
    /// Appends tokens and answers with the logits after the last.
    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>>;
}

/// A model and its sequences.
pub(crate) struct Candle {
    family: Box<dyn Family>,
    weight_bytes: u64,
    sequences: HashMap<SequenceId, Box<dyn Sequence>>,
    opened: u64,
}

impl Candle {
    /// Refuses a model of another family, before anything else that such a file lacks is complained of.
    pub(crate) fn check_architecture(gguf: &Gguf) -> Result<(), EngineError> {
        let found = gguf.architecture()?;
        if [&dense::FAMILIES[..], &library::FAMILIES[..]].concat().contains(&found) {
            return Ok(());
        }
        let supported = [&library::FAMILIES[..], &dense::FAMILIES[..]].concat().join(", ");
        Err(checks::unsupported("general.architecture", format!("{found:?}"), &supported))
    }

    /// Loads the tensors of the file at `path`, whose header is `gguf`, for a tokenizer of `vocabulary` tokens and contexts
    /// of at most `context_cap`. One token is computed, so that a file that candle cannot run is refused here and not at
    /// the first request.
    pub(crate) fn load(
        path: &Path,
        gguf: &Gguf,
        vocabulary: usize,
        context_cap: usize,
    ) -> Result<Self, EngineError> {
        Self::check_architecture(gguf)?;
        let cap = context_cap.min(MAX_CONTEXT);
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let family: Box<dyn Family> = match gguf.architecture()? {
                name if library::FAMILIES.contains(&name) => {
                    library::load(path, gguf, vocabulary as u64, cap)?
                }
                _ => Box::new(dense::Dense::load(path, gguf, vocabulary, cap)?),
            };
            family.sequence().forward(&[0]).map_err(checks::backend)?;
            Ok(family)
        }));
        let family = loaded.unwrap_or_else(|panic| {
            Err(EngineError::Backend(GenerationError::panicked(&*panic).to_string()))
        })?;
        let weight_bytes = gguf.tensors().iter().map(|tensor| tensor.bytes).sum();
        Ok(Self { family, weight_bytes, sequences: HashMap::new(), opened: 0 })
    }
}

impl Backend for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn context_length(&self) -> usize {
        self.family.context_length()
    }

    fn kv_bytes_per_token(&self) -> u64 {
        self.family.kv_bytes_per_token()
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// No adapter fits, so none comes here.
    fn open(&mut self, _tokens: &[u32], _scope: Scope, _adapter: Option<&Adapter>) -> (SequenceId, usize) {
        let id = SequenceId::numbered(self.opened);
        self.opened += 1;
        self.sequences.insert(id, self.family.sequence());
        (id, 0)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    /// One chunk after the other: none of these models knows a ragged batch. A panic stays with its own sequence, which is
    /// closed then; the weights that all share are never written.
    fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<Outcome>, CacheFull> {
        let _turn = turn::wait();
        let outcomes = chunks.iter().map(|chunk| {
            let sequence = self.sequences.get_mut(&chunk.sequence);
            let sequence =
                sequence.ok_or_else(|| GenerationError::Backend("the sequence is closed".to_owned()))?;
            let computed = catch_unwind(AssertUnwindSafe(|| sequence.forward(chunk.tokens)));
            let logits = computed.map_err(|panic| GenerationError::panicked(&*panic))?;
            let logits = logits.map_err(|error| GenerationError::Backend(checks::text(error)))?;
            Ok(chunk.logits.then_some(logits))
        });
        Ok(outcomes.collect())
    }
}
