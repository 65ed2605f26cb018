//! Logits of llama-family models on the CPU: fast, and equal to the bit on every instruction set, with any
//! number of threads, alone or in any batch, prefilled at once or in pieces (profile `llm-packed-v1`).
//!
//! From tokens to logits:
//!
//! ```text
//! chunks ─► rows (token, sequence, position) ─► passes of up to 256 rows ─► layers ─► logits of chosen rows
//!              │                                   │
//!              └ kv: blocks of 16 positions,       └ forward: stages that all workers share
//!                tables, shared beginnings           activations: rows quantised by blocks of 32
//!                                                    weights, matmul: tiles of 16 outputs by 32 inputs
//!                                                    isa: the same operations on each processor
//! ```
//!
//! What makes results equal: integer dot products are exact; everything else is IEEE additions, products,
//! quotients, roots and fused multiply-adds, written once, in an order that depends neither on the batch nor
//! on who computes. There are no reciprocal estimates and no library functions but `libm`'s, in f64.

mod activations;
mod architecture;
mod attention;
pub mod bounds;
mod engine;
mod forward;
mod isa;
mod kv;
mod lora;
mod math;
mod matmul;
mod model;
mod number;
mod rotation;
mod shared;
mod softmax;
mod step;
mod trial;
mod weights;
mod workers;

use std::path::Path;

pub use isa::Isa;
pub use kv::{KvType, KvUse, Scope, SequenceId};
pub use lora::AdapterBase;
pub use step::{Chunk, Logits, StepError};

use crate::gguf::Gguf;
use crate::{Adapter, AdapterError, EngineError};
pub(crate) use architecture::{Activation, Architecture};
use engine::{Engine, Load};
pub(crate) use kv::POSITIONS;
use kv::{Geometry, Sequences};
pub(crate) use lora::{AdapterWeights, Builder as AdapterBuilder, MAX_RANK, Size, Target};
pub(crate) use number::{Brain, Half, Number, Single};
pub(crate) use rotation::{Pairs, Rotation};
pub(crate) use softmax::{Weights, largest};

/// Bytes of the KV cache for one token of one sequence of the model that the file describes.
pub(crate) fn kv_bytes_per_token(gguf: &Gguf, kv_type: KvType) -> Result<u64, EngineError> {
    let architecture = architecture::Architecture::read(gguf)?;
    Ok(Geometry::of(&architecture, 0).values_per_token() as u64 * kv_type.bytes() as u64)
}

/// How a model is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that compute, the calling one included: best one per core, from 1 to 256.
    pub threads: usize,
    /// The instruction set; `None` for the best that there is.
    pub isa: Option<Isa>,
    /// Size of the KV cache, in blocks of 16 tokens. Memory is taken from the system as it is used.
    pub kv_blocks: usize,
    /// How keys and values are stored. It changes results, the other options do not.
    pub kv_type: KvType,
    /// Longest sequence in tokens, if the model itself allows more.
    pub context_cap: usize,
}

/// A model in memory, with its sequences.
pub struct PackedModel {
    engine: Box<dyn Engine>,
    sequences: Sequences,
    isa: Isa,
    context: usize,
    vocabulary: usize,
    kv_bytes_per_token: u64,
    weight_bytes: usize,
}

impl PackedModel {
    /// Loads the file at `path`, whose header is `gguf`. It is mapped and packed; nothing of it is kept open.
    ///
    /// # Errors
    /// If an option is out of range, the file cannot be read, or it is of an architecture, a shape or a
    /// format that there are no kernels for.
    pub fn load(path: &Path, gguf: &Gguf, options: Options) -> Result<Self, EngineError> {
        Self::load_with_progress(path, gguf, options, &|_| {})
    }

    /// The same; several threads tell `packed` of each piece of a tensor that is done, in bytes of the file.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_with_progress(
        path: &Path,
        gguf: &Gguf,
        options: Options,
        packed: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, EngineError> {
        options.check()?;
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let engine = isa.dispatch(Load { path, gguf, options, packed })??;
        let model = engine.model();
        Ok(Self {
            sequences: Sequences::new(options.kv_blocks),
            isa,
            context: model.architecture.context.min(options.context_cap),
            vocabulary: model.architecture.vocabulary,
            kv_bytes_per_token: (engine.kv_values_per_token() * options.kv_type.bytes()) as u64,
            weight_bytes: model.bytes(),
            engine,
        })
    }

    /// Longest sequence, in tokens.
    pub fn context_length(&self) -> usize {
        self.context
    }

    /// Number of token ids, and of logits in a row.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// KV cache of one token of one sequence, in bytes.
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.kv_bytes_per_token
    }

    /// Memory of the packed weights, in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Label for people and metrics, such as "packed avx2".
    pub fn label(&self) -> String {
        format!("packed {}", self.isa.name())
    }

    /// Tokens for which the KV cache has unused room, that of closed sequences included.
    pub fn kv_tokens_available(&self) -> usize {
        self.sequences.available() * POSITIONS
    }

    /// How full the KV cache is.
    pub fn kv_use(&self) -> KvUse {
        self.sequences.kv_use()
    }

    /// Opens an empty sequence.
    pub fn open(&mut self) -> SequenceId {
        self.sequences.open(Scope::default(), &[], None).0
    }

    /// Opens a sequence that begins with as many tokens of `prompt` as are in the cache from other
    /// sequences, and says how many: always fewer than the prompt has, so that there is one left to compute.
    pub fn open_with_prefix(&mut self, prompt: &[u32]) -> (SequenceId, usize) {
        self.open_in(Scope::default(), prompt)
    }

    /// The same within a scope: only sequences of the same one share what they have computed.
    pub fn open_in(&mut self, scope: Scope, prompt: &[u32]) -> (SequenceId, usize) {
        self.sequences.open(scope, prompt, None)
    }

    /// The same for a sequence that is computed with an adapter. Only what was computed with this very version of it is
    /// found in the cache. The adapter stays in memory until the sequence and its forks are closed.
    ///
    /// # Errors
    /// [`AdapterError::Unsupported`] if the adapter was read for a base of other sizes.
    pub fn open_with_adapter(
        &mut self,
        scope: Scope,
        prompt: &[u32],
        adapter: &Adapter,
    ) -> Result<(SequenceId, usize), AdapterError> {
        let base = self.adapter_base();
        if *adapter.base() != base {
            return Err(AdapterError::Unsupported {
                what: "its base".to_owned(),
                found: format!("{:?}", adapter.base()),
                supported: format!("{base:?}"),
            });
        }
        Ok(self.sequences.open(scope, prompt, Some(adapter)))
    }

    /// What adapters must fit.
    pub fn adapter_base(&self) -> AdapterBase {
        AdapterBase::of(&self.engine.model().architecture)
    }

    /// Opens a sequence that begins as `sequence` is now; `None` if that is not open. The two share their
    /// memory until one of them goes on.
    pub fn fork(&mut self, sequence: SequenceId) -> Option<SequenceId> {
        self.sequences.fork(sequence)
    }

    /// Closes a sequence. Its blocks become free, but stay known until their room is needed.
    pub fn close(&mut self, sequence: SequenceId) {
        self.sequences.close(sequence);
    }

    /// Number of tokens in a sequence; `None` if it is not open.
    pub fn length(&self, sequence: SequenceId) -> Option<usize> {
        self.sequences.get(sequence).map(|sequence| sequence.length)
    }
}

impl Options {
    fn check(self) -> Result<(), EngineError> {
        let within = |option, found, limit, expected| {
            if (1..=limit).contains(&found) {
                Ok(())
            } else {
                Err(EngineError::Option { option, found, expected })
            }
        };
        within("threads", self.threads, 256, "from 1 to 256")?;
        within("kv_blocks", self.kv_blocks, 1 << 24, "from 1 to 2^24")?;
        within("context_cap", self.context_cap, usize::MAX, "at least 1")
    }
}
