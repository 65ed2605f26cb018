//! Own kernels behind the scheduler's trait.

use std::path::Path;

use super::{AdapterBase, Backend, CacheFull, Chunk, KvUse, Outcome, Scope, SequenceId};
use crate::gguf::Gguf;
use crate::packed::{Options, PackedModel, StepError};
use crate::{Adapter, EngineError, GenerationError, turn};

/// A model of the packed core.
pub(crate) struct Packed(PackedModel);

impl Packed {
    /// Loads the file at `path`, whose header is `gguf`, for a tokenizer of `vocabulary` tokens. One token is computed, so
    /// that a file that cannot be run is refused here and not at the first request.
    pub(crate) fn load(
        path: &Path,
        gguf: &Gguf,
        vocabulary: usize,
        options: Options,
        packed: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, EngineError> {
        let mut model = PackedModel::load_with_progress(path, gguf, options, packed)?;
        if model.vocabulary() < vocabulary {
            let detail =
                format!("the tokenizer has {vocabulary} tokens, the embedding {}", model.vocabulary());
            return Err(EngineError::Inconsistent { what: "token_embd.weight".to_owned(), detail });
        }
        let sequence = model.open();
        let first = model.step(&[Chunk { sequence, tokens: &[0], logits: true }]);
        first.map_err(|error| EngineError::Backend(error.to_string()))?;
        model.close(sequence);
        Ok(Self(model))
    }
}

impl Backend for Packed {
    fn name(&self) -> &'static str {
        "packed"
    }

    fn context_length(&self) -> usize {
        self.0.context_length()
    }

    fn kv_bytes_per_token(&self) -> u64 {
        self.0.kv_bytes_per_token()
    }

    fn weight_bytes(&self) -> u64 {
        self.0.weight_bytes() as u64
    }

    fn kv(&self) -> Option<KvUse> {
        Some(self.0.kv_use())
    }

    fn cuts_exactly(&self) -> bool {
        true
    }

    fn adapter_base(&self) -> Option<AdapterBase> {
        Some(self.0.adapter_base())
    }

    fn open(&mut self, tokens: &[u32], scope: Scope, adapter: Option<&Adapter>) -> (SequenceId, usize) {
        let Some(adapter) = adapter else { return self.0.open_in(scope, tokens) };
        // The scheduler took no request whose adapter does not fit.
        self.0.open_with_adapter(scope, tokens, adapter).expect("an adapter of this base")
    }

    fn close(&mut self, sequence: SequenceId) {
        self.0.close(sequence);
    }

    fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<Outcome>, CacheFull> {
        let turn = turn::wait();
        let stepped = self.0.step(chunks);
        drop(turn);
        match stepped {
            Ok(logits) => {
                let mut rows = logits.rows();
                let mut next = |wanted: bool| wanted.then(|| rows.next().map(<[f32]>::to_vec)).flatten();
                Ok(chunks.iter().map(|chunk| Ok(next(chunk.logits))).collect())
            }
            Err(StepError::Full { .. }) => Err(CacheFull),
            Err(error) => {
                let failure = match error {
                    StepError::Panicked(text) => GenerationError::Panicked(text),
                    other => GenerationError::Backend(other.to_string()),
                };
                Ok(chunks.iter().map(|_| Err(failure.clone())).collect())
            }
        }
    }
}
