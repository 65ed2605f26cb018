//! BERT through candle, in f32.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;

use super::Pooling;
use super::config::{Config, inconsistent};
use super::folder::Folder;
use crate::batch::Model;
use crate::safetensors::SafeTensors;
use crate::{EngineError, GenerationError};

/// Products of up to so many columns may be blocked by the number of rows: those of narrower models run alone.
const NARROW: usize = 64;

/// A loaded model.
pub(super) struct Encoder {
    bert: BertModel,
    width: usize,
    pooling: Pooling,
    normalised: bool,
    file_bytes: u64,
    parameters: u64,
}

impl Encoder {
    /// Loads the weights and computes one token, so that what candle cannot run is refused here.
    pub(super) fn load(folder: &Folder) -> Result<Self, EngineError> {
        let file = SafeTensors::open(&folder.transformer.join("model.safetensors"))?;
        let (mut tensors, mut parameters) = (HashMap::new(), 0);
        for (name, stored, shape) in names(&folder.config, &file) {
            let values = file.floats(&stored, &shape)?;
            parameters += values.len() as u64;
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).map_err(backend)?;
            tensors.insert(name, tensor);
        }
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let config = folder.config.for_candle()?;
        let loaded = catch_unwind(AssertUnwindSafe(|| BertModel::load(weights, &config)));
        let bert = loaded
            .map_err(|panic| EngineError::Backend(GenerationError::panicked(&*panic).to_string()))?
            .map_err(backend)?;
        let encoder = Self {
            bert,
            width: folder.config.hidden_size,
            pooling: folder.pooling,
            normalised: folder.normalised,
            file_bytes: file.file_bytes(),
            parameters,
        };
        let first = catch_unwind(AssertUnwindSafe(|| encoder.group(&[&[0]])));
        let vectors = first.unwrap_or_else(|panic| Err(GenerationError::panicked(&*panic)));
        let checked = vectors.and_then(|vectors| vectors.into_iter().collect::<Result<Vec<_>, _>>());
        checked.map_err(|error| EngineError::Backend(error.to_string()))?;
        Ok(encoder)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The vectors of texts of one length.
    fn group(&self, texts: &[&[u32]]) -> Result<Vec<Result<Vec<f32>, GenerationError>>, GenerationError> {
        let failed = |error: candle_core::Error| GenerationError::Backend(error.to_string());
        let length = texts[0].len();
        let hidden = Tensor::from_vec(texts.concat(), (texts.len(), length), &Device::Cpu)
            .and_then(|ids| self.bert.forward(&ids, &ids.zeros_like()?, None))
            .and_then(|hidden| hidden.flatten_all()?.to_vec1::<f32>())
            .map_err(failed)?;
        let texts = hidden.chunks_exact(length * self.width);
        Ok(texts.map(|tokens| self.pooling.pool(tokens, self.width, self.normalised)).collect())
    }

    /// Whether texts of this many tokens can share a product without changing each other's last bit: the order of its
    /// sums must not depend on the number of rows.
    fn shares(&self, length: usize) -> bool {
        length > 1 && self.width > NARROW
    }
}

impl Model for Encoder {
    type Input = Vec<u32>;
    type Output = Vec<f32>;

    fn cost(tokens: &Vec<u32>) -> usize {
        tokens.len()
    }

    fn compute(&mut self, inputs: &[&Vec<u32>]) -> Vec<Result<Vec<f32>, GenerationError>> {
        let mut by_length: Vec<usize> = (0..inputs.len()).collect();
        by_length.sort_by_key(|index| inputs[*index].len());
        let mut outputs: Vec<_> = inputs.iter().map(|_| Err(GenerationError::Stopped)).collect();
        let together =
            |a: &usize, b: &usize| inputs[*a].len() == inputs[*b].len() && self.shares(inputs[*a].len());
        for group in by_length.chunk_by(together) {
            let texts: Vec<&[u32]> = group.iter().map(|index| inputs[*index].as_slice()).collect();
            let computed = catch_unwind(AssertUnwindSafe(|| self.group(&texts)))
                .unwrap_or_else(|panic| Err(GenerationError::panicked(&*panic)));
            match computed {
                Ok(vectors) => {
                    group.iter().zip(vectors).for_each(|(index, vector)| outputs[*index] = vector);
                }
                Err(error) => group.iter().for_each(|index| outputs[*index] = Err(error.clone())),
            }
        }
        outputs
    }
}

/// Every tensor that candle asks for: its name, its name in the file, its shape.
fn names(config: &Config, file: &SafeTensors) -> Vec<(String, String, Vec<usize>)> {
    let known = file.header().tensors();
    let prefix = if known.contains_key("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let (width, hidden) = (config.hidden_size, config.intermediate_size);
    let mut tensors = Vec::new();
    let mut tensor = |name: String, shape: &[usize]| {
        // Older files call the factors and terms of norms gamma and beta.
        let old =
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let stored = [&name, &old].map(|name| format!("{prefix}{name}"));
        let [stored, old] = stored;
        let stored = if known.contains_key(&old) { old } else { stored };
        tensors.push((name, stored, shape.to_vec()));
    };
    let embeddings = [
        ("word", config.vocab_size),
        ("position", config.max_position_embeddings),
        ("token_type", config.type_vocab_size),
    ];
    for (kind, rows) in embeddings {
        tensor(format!("embeddings.{kind}_embeddings.weight"), &[rows, width]);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..config.num_hidden_layers {
        let layer = format!("encoder.layer.{layer}");
        let products = [
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", hidden, width),
            ("output.dense", width, hidden),
        ];
        for (part, outputs, inputs) in products {
            tensor(format!("{layer}.{part}.weight"), &[outputs, inputs]);
            tensor(format!("{layer}.{part}.bias"), &[outputs]);
        }
        norms.extend(["attention.output", "output"].map(|part| format!("{layer}.{part}.LayerNorm")));
    }
    for norm in norms {
        tensor(format!("{norm}.weight"), &[width]);
        tensor(format!("{norm}.bias"), &[width]);
    }
    tensors
}

fn backend(error: candle_core::Error) -> EngineError {
    inconsistent("weights", error.to_string())
}
