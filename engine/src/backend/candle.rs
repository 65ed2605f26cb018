//! The llama family through candle's `quantized_llama`.
//!
//! Its model keeps one KV cache inside, so every sequence gets a clone: weights are shared by reference,
//! the cache is the clone's own. A clone is dropped with its sequence and never recycled, because it also
//! keeps every attention mask it ever made.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::quantized::gguf_file::{
    Content, TensorInfo as CandleTensor, Value as CandleValue, VersionedMagic,
};
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

use super::{Backend, CacheFull, Chunk, Outcome, Scope, SequenceId};
use crate::gguf::{self, Gguf, TensorInfo};
use crate::{EngineError, GenerationError};

/// Most layers and the widest model that is accepted: twice the largest llama.
const MAX_LAYERS: u64 = 256;
const MAX_WIDTH: u64 = 1 << 16;

/// A loaded model of the llama family.
pub(crate) struct CandleLlama {
    weights: ModelWeights,
    weight_bytes: u64,
    shape: Shape,
    sequences: HashMap<SequenceId, Sequence>,
    opened: u64,
}

/// The sizes that a llama has, checked against each other.
#[derive(Debug, Clone, Copy)]
struct Shape {
    layers: u64,
    width: u64,
    heads: u64,
    kv_heads: u64,
    hidden: u64,
    vocabulary: u64,
    context: u64,
}

impl CandleLlama {
    /// Refuses a model of another family, before anything else that such a file lacks is complained of.
    pub(crate) fn check_architecture(gguf: &Gguf) -> Result<(), EngineError> {
        match gguf.architecture()? {
            "llama" => Ok(()),
            other => Err(unsupported("general.architecture", format!("{other:?}"), "\"llama\"")),
        }
    }

    /// Loads the tensors of the file at `path`, whose header is `gguf`. One token is computed, so that a
    /// file that candle cannot run is refused here and not at the first request.
    pub(crate) fn load(path: &Path, gguf: &Gguf, vocabulary: usize) -> Result<Self, EngineError> {
        let shape = Shape::read(gguf, vocabulary as u64)?;
        shape.check_tensors(gguf)?;
        let mut file = gguf::open(path)?;
        let content = content(gguf, shape)?;
        let weights = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).map_err(backend)?;
        Sequence::new(&weights).forward(&[0]).map_err(backend)?;
        let weight_bytes = gguf.tensors().iter().map(|tensor| tensor.bytes).sum();
        Ok(Self { weights, weight_bytes, shape, sequences: HashMap::new(), opened: 0 })
    }
}

impl Backend for CandleLlama {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn context_length(&self) -> usize {
        // candle's table of rotations ends there.
        MAX_SEQ_LEN.min(self.shape.context as usize)
    }

    fn kv_bytes_per_token(&self) -> u64 {
        let (key_and_value, f32_bytes) = (2, 4);
        self.shape.layers * self.shape.kv_heads * self.shape.head_width() * key_and_value * f32_bytes
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn open(&mut self, _tokens: &[u32], _scope: Scope) -> (SequenceId, usize) {
        let id = SequenceId::numbered(self.opened);
        self.opened += 1;
        self.sequences.insert(id, Sequence::new(&self.weights));
        (id, 0)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    /// One chunk after the other: candle's model knows no ragged batch. A panic stays with its own sequence, which is
    /// closed then; the weights that all share are never written.
    fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<Outcome>, CacheFull> {
        let outcomes = chunks.iter().map(|chunk| {
            let sequence = self.sequences.get_mut(&chunk.sequence);
            let sequence =
                sequence.ok_or_else(|| GenerationError::Backend("the sequence is closed".to_owned()))?;
            let computed = catch_unwind(AssertUnwindSafe(|| sequence.forward(chunk.tokens)));
            let logits = computed.map_err(|panic| GenerationError::panicked(&*panic))?;
            let logits = logits.map_err(|error| GenerationError::Backend(text(error)))?;
            Ok(chunk.logits.then_some(logits))
        });
        Ok(outcomes.collect())
    }
}

/// A clone of the model with the cache of one sequence.
struct Sequence {
    weights: ModelWeights,
    position: usize,
}

impl Sequence {
    fn new(weights: &ModelWeights) -> Self {
        Self { weights: weights.clone(), position: 0 }
    }

    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.position)?;
        self.position += tokens.len();
        logits.squeeze(0)?.to_vec1()
    }
}

impl Shape {
    fn read(gguf: &Gguf, vocabulary: u64) -> Result<Self, EngineError> {
        let number = |name: &str, limit: u64| {
            let key = format!("llama.{name}");
            match gguf.unsigned(&key) {
                Some(value) if (1..=limit).contains(&value) => Ok(value),
                other => Err(inconsistent(&key, format!("it is {other:?}; it must be from 1 to {limit}"))),
            }
        };
        if gguf.unsigned("llama.expert_count").unwrap_or(0) > 1 {
            return Err(unsupported("llama.expert_count", "above 1".to_owned(), "dense models"));
        }
        let width = number("embedding_length", MAX_WIDTH)?;
        let heads = number("attention.head_count", width)?;
        let shape = Self {
            layers: number("block_count", MAX_LAYERS)?,
            width,
            heads,
            kv_heads: number("attention.head_count_kv", heads)?,
            hidden: number("feed_forward_length", 16 * MAX_WIDTH)?,
            vocabulary,
            context: number("context_length", u64::from(u32::MAX))?,
        };
        let rotated = number("rope.dimension_count", width)?;
        shape.check_heads(rotated)?;
        check_float(gguf, "llama.attention.layer_norm_rms_epsilon", true)?;
        check_float(gguf, "llama.rope.freq_base", false)?;
        Ok(shape)
    }

    fn check_heads(self, rotated: u64) -> Result<(), EngineError> {
        let Self { width, heads, kv_heads, .. } = self;
        if !width.is_multiple_of(heads) || !heads.is_multiple_of(kv_heads) {
            let detail = format!("{heads} heads and {kv_heads} KV heads do not divide a width of {width}");
            return Err(inconsistent("llama.attention.head_count", detail));
        }
        if rotated != self.head_width() || !rotated.is_multiple_of(2) {
            let found = format!("{rotated} of {} columns of a head", self.head_width());
            return Err(unsupported("llama.rope.dimension_count", found, "all columns, an even number"));
        }
        Ok(())
    }

    fn head_width(self) -> u64 {
        self.width / self.heads
    }

    /// Every tensor that candle will ask for is there, in the shape that the metadata implies.
    fn check_tensors(self, gguf: &Gguf) -> Result<(), EngineError> {
        let by_name: HashMap<&str, &TensorInfo> =
            gguf.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let check = |name: &str, expected: &[u64]| match by_name.get(name) {
            None => Err(inconsistent(name, "the tensor is missing".to_owned())),
            Some(tensor) if tensor.shape != expected => {
                Err(inconsistent(name, format!("its shape is {:?}; it must be {expected:?}", tensor.shape)))
            }
            Some(_) => Ok(()),
        };
        let kv_width = self.kv_heads * self.head_width();
        check("token_embd.weight", &[self.vocabulary, self.width])?;
        check("output_norm.weight", &[self.width])?;
        if by_name.contains_key("output.weight") {
            check("output.weight", &[self.vocabulary, self.width])?;
        }
        for layer in 0..self.layers {
            let check = |part: &str, expected: &[u64]| check(&format!("blk.{layer}.{part}.weight"), expected);
            check("attn_norm", &[self.width])?;
            check("attn_q", &[self.width, self.width])?;
            check("attn_k", &[kv_width, self.width])?;
            check("attn_v", &[kv_width, self.width])?;
            check("attn_output", &[self.width, self.width])?;
            check("ffn_norm", &[self.width])?;
            check("ffn_gate", &[self.hidden, self.width])?;
            check("ffn_up", &[self.hidden, self.width])?;
            check("ffn_down", &[self.width, self.hidden])?;
        }
        if let Some(scaling) = gguf.string("llama.rope.scaling.type").filter(|kind| *kind != "none") {
            return Err(unsupported("llama.rope.scaling.type", format!("{scaling:?}"), "\"none\""));
        }
        if by_name.contains_key("rope_freqs.weight") {
            return Err(unsupported("rope_freqs.weight", "present".to_owned(), "unscaled rotations"));
        }
        Ok(())
    }
}

/// The header in candle's words: only what its llama reads, all of it checked.
fn content(gguf: &Gguf, shape: Shape) -> Result<Content, EngineError> {
    let number = |name: &str, value: u64| (format!("llama.{name}"), CandleValue::U32(value as u32));
    let mut metadata = HashMap::from([
        ("general.architecture".to_owned(), CandleValue::String("llama".to_owned())),
        number("block_count", shape.layers),
        number("embedding_length", shape.width),
        number("attention.head_count", shape.heads),
        number("attention.head_count_kv", shape.kv_heads),
        number("rope.dimension_count", shape.head_width()),
    ]);
    for key in ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"] {
        if let Some(value) = gguf.float(key) {
            metadata.insert(key.to_owned(), CandleValue::F32(value as f32));
        }
    }
    let mut tensor_infos = HashMap::new();
    for tensor in gguf.tensors() {
        let ggml_dtype =
            tensor.dtype().ok_or_else(|| inconsistent(&tensor.name, "unknown type".to_owned()))?;
        let sides: Vec<usize> = tensor.shape.iter().map(|side| *side as usize).collect();
        let info = CandleTensor { ggml_dtype, shape: sides.into(), offset: tensor.offset };
        tensor_infos.insert(tensor.name.clone(), info);
    }
    let tensor_data_offset = gguf.data_offset();
    Ok(Content { magic: VersionedMagic::GgufV3, metadata, tensor_infos, tensor_data_offset })
}

fn check_float(gguf: &Gguf, key: &str, required: bool) -> Result<(), EngineError> {
    match gguf.float(key) {
        Some(value) if value.is_finite() && value > 0.0 => Ok(()),
        None if !required && gguf.get(key).is_none() => Ok(()),
        other => Err(inconsistent(key, format!("it is {other:?}; it must be a number above 0"))),
    }
}

fn unsupported(what: &str, found: String, supported: &str) -> EngineError {
    EngineError::Unsupported { what: what.to_owned(), found, supported: supported.to_owned() }
}

fn inconsistent(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}

fn backend(error: candle_core::Error) -> EngineError {
    EngineError::Backend(text(error))
}

/// What went wrong, without candle's stack: the text may reach a caller.
fn text(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => text(*inner),
        other => other.to_string(),
    }
}
