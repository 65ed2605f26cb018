//! Metadata and tensors, held against each other before candle sees them: its loaders divide by what a file says.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use candle_core::quantized::gguf_file::{Content, TensorInfo as CandleTensor, Value, VersionedMagic};

use crate::EngineError;
use crate::gguf::{Gguf, TensorInfo};

/// Most layers and the widest model that is accepted: twice the largest llama.
pub(super) const MAX_LAYERS: u64 = 256;
pub(super) const MAX_WIDTH: u64 = 1 << 16;

/// A file's header, and what candle is told of it.
pub(super) struct Checks<'a> {
    gguf: &'a Gguf,
    family: &'static str,
    tensors: HashMap<&'a str, &'a TensorInfo>,
    /// Names that the family has.
    known: RefCell<HashSet<String>>,
    /// Metadata for candle.
    told: RefCell<HashMap<String, Value>>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(gguf: &'a Gguf, family: &'static str) -> Self {
        let tensors = gguf.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let architecture = ("general.architecture".to_owned(), Value::String(family.to_owned()));
        let told = RefCell::new(HashMap::from([architecture]));
        Self { gguf, family, tensors, known: RefCell::default(), told }
    }

    /// A number of the family's metadata, from 1 to `limit`. candle is told.
    pub(super) fn number(&self, name: &str, limit: u64) -> Result<u64, EngineError> {
        let key = self.key(name);
        match self.gguf.unsigned(&key) {
            Some(value) if (1..=limit).contains(&value) => Ok(self.tell(name, value)),
            other => Err(inconsistent(&key, format!("it is {other:?}; it must be from 1 to {limit}"))),
        }
    }

    /// The same of one that may be absent.
    pub(super) fn optional(&self, name: &str, limit: u64) -> Result<Option<u64>, EngineError> {
        self.gguf.get(&self.key(name)).map(|_| self.number(name, limit)).transpose()
    }

    /// Tells candle a number of the family's metadata.
    pub(super) fn tell(&self, name: &str, value: u64) -> u64 {
        self.told.borrow_mut().insert(self.key(name), Value::U32(value as u32));
        value
    }

    /// A number with a fraction, above 0. candle is told.
    pub(super) fn float(&self, name: &str, required: bool) -> Result<Option<f32>, EngineError> {
        let key = self.key(name);
        match self.gguf.float(&key) {
            Some(value) if value > 0.0 && (value as f32).is_finite() => {
                self.told.borrow_mut().insert(key, Value::F32(value as f32));
                Ok(Some(value as f32))
            }
            None if !required && self.gguf.get(&key).is_none() => Ok(None),
            other => Err(inconsistent(&key, format!("it is {other:?}; it must be a number above 0"))),
        }
    }

    /// Refuses rotations that candle's models leave out.
    pub(super) fn unscaled_rotations(&self) -> Result<(), EngineError> {
        let key = self.key("rope.scaling.type");
        if let Some(scaling) = self.gguf.string(&key).filter(|kind| *kind != "none") {
            return Err(unsupported(&key, format!("{scaling:?}"), "\"none\""));
        }
        if self.tensors.contains_key("rope_freqs.weight") {
            return Err(unsupported("rope_freqs.weight", "present".to_owned(), "unscaled rotations"));
        }
        Ok(())
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// The tensor is there, in this shape.
    pub(super) fn tensor(&self, name: &str, expected: &[u64]) -> Result<(), EngineError> {
        self.known.borrow_mut().insert(name.to_owned());
        match self.tensors.get(name) {
            None => Err(inconsistent(name, "the tensor is missing".to_owned())),
            Some(tensor) if tensor.shape != expected => {
                Err(inconsistent(name, format!("its shape is {:?}; it must be {expected:?}", tensor.shape)))
            }
            Some(_) => Ok(()),
        }
    }

    /// The same of one that may be absent.
    pub(super) fn optional_tensor(&self, name: &str, expected: &[u64]) -> Result<(), EngineError> {
        if self.has(name) { self.tensor(name, expected) } else { Ok(()) }
    }

    /// Heads divide the width, and key heads the heads.
    pub(super) fn heads(&self, width: u64, heads: u64, kv_heads: u64) -> Result<(), EngineError> {
        if width.is_multiple_of(heads) && heads.is_multiple_of(kv_heads) {
            return Ok(());
        }
        let detail = format!("{heads} heads and {kv_heads} KV heads do not divide a width of {width}");
        Err(inconsistent(&self.key("attention.head_count"), detail))
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    /// The header in candle's words: only what was checked. A tensor that the family does not have would be left out of the
    /// computation, so it is refused.
    pub(super) fn content(self) -> Result<Content, EngineError> {
        let known = self.known.into_inner();
        let mut tensor_infos = HashMap::new();
        for tensor in self.gguf.tensors() {
            if !known.contains(&tensor.name) {
                return Err(unsupported(
                    "a tensor of this architecture",
                    tensor.name.clone(),
                    "those it has",
                ));
            }
            tensor_infos.insert(tensor.name.clone(), in_candles_words(tensor)?);
        }
        let (metadata, tensor_data_offset) = (self.told.into_inner(), self.gguf.data_offset());
        Ok(Content { magic: VersionedMagic::GgufV3, metadata, tensor_infos, tensor_data_offset })
    }
}

/// Where a checked tensor lies, for candle's reader.
pub(super) fn in_candles_words(tensor: &TensorInfo) -> Result<CandleTensor, EngineError> {
    let unknown = || inconsistent(&tensor.name, "unknown type".to_owned());
    let shape: Vec<usize> = tensor.shape.iter().map(|side| *side as usize).collect();
    let ggml_dtype = tensor.dtype().ok_or_else(unknown)?;
    Ok(CandleTensor { ggml_dtype, shape: shape.into(), offset: tensor.offset })
}

pub(super) fn unsupported(what: &str, found: String, supported: &str) -> EngineError {
    EngineError::Unsupported { what: what.to_owned(), found, supported: supported.to_owned() }
}

pub(super) fn inconsistent(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}

pub(super) fn backend(error: candle_core::Error) -> EngineError {
    EngineError::Backend(text(error))
}

/// What went wrong, without candle's stack: the text may reach a caller.
pub(super) fn text(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => text(*inner),
        other => other.to_string(),
    }
}
