//! `config.json` of a BERT model, checked.

use std::path::Path;

use candle_transformers::models::bert::{self, HiddenAct, PositionEmbeddingType};
use serde::Deserialize;

use crate::{EngineError, bounded};

/// Longest JSON file of a folder but the tokenizer's.
pub(super) const MAX_JSON_BYTES: u64 = 1 << 20;
/// Twice the largest BERT known, and more.
const MAX_LAYERS: usize = 256;
const MAX_WIDTH: usize = 1 << 14;
const MAX_HIDDEN: usize = 1 << 16;
const MAX_VOCABULARY: usize = 1 << 22;
const MAX_POSITIONS: usize = 1 << 16;

/// What a model is, in the names of `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Config {
    model_type: Option<String>,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    hidden_act: String,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    layer_norm_eps: f64,
    position_embedding_type: Option<String>,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, EngineError> {
        let config: Self = bounded::read_json(path, MAX_JSON_BYTES)?;
        config.check()?;
        Ok(config)
    }

    /// In candle's words.
    pub(super) fn for_candle(&self) -> Result<bert::Config, EngineError> {
        Ok(bert::Config {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: self.activation()?,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps,
            position_embedding_type: PositionEmbeddingType::Absolute,
            // The weights come without a prefix.
            model_type: None,
            ..bert::Config::default()
        })
    }

    fn activation(&self) -> Result<HiddenAct, EngineError> {
        match self.hidden_act.as_str() {
            "gelu" => Ok(HiddenAct::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(HiddenAct::GeluApproximate),
            "relu" => Ok(HiddenAct::Relu),
            other => {
                Err(unsupported("hidden_act", other, "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu"))
            }
        }
    }

    fn check(&self) -> Result<(), EngineError> {
        // Other families of the same shapes count positions or types differently.
        match self.model_type.as_deref() {
            None | Some("bert") => {}
            Some(other) => return Err(unsupported("model_type", other, "bert")),
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => return Err(unsupported("position_embedding_type", other, "absolute")),
        }
        self.activation()?;
        let counts = [
            ("vocab_size", self.vocab_size, MAX_VOCABULARY),
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, self.hidden_size),
            ("intermediate_size", self.intermediate_size, MAX_HIDDEN),
            ("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS),
            ("type_vocab_size", self.type_vocab_size, 64),
        ];
        for (name, found, limit) in counts {
            if !(1..=limit).contains(&found) {
                return Err(inconsistent(name, format!("it is {found}; it must be from 1 to {limit}")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let detail =
                format!("{} heads do not divide a width of {}", self.num_attention_heads, self.hidden_size);
            return Err(inconsistent("num_attention_heads", detail));
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps < 1.0) {
            let detail = format!("it is {}; it must be from 0 to below 1", self.layer_norm_eps);
            return Err(inconsistent("layer_norm_eps", detail));
        }
        Ok(())
    }
}

pub(super) fn unsupported(what: &str, found: &str, supported: &str) -> EngineError {
    EngineError::Unsupported {
        what: what.to_owned(),
        found: format!("{found:?}"),
        supported: supported.to_owned(),
    }
}

pub(super) fn inconsistent(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}
