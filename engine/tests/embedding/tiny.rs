//! A BERT of a few thousand random weights, and ways to spoil it.

use std::collections::BTreeMap;
use std::path::Path;

use dividend_engine::safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const WIDTH: usize = 32;
const HIDDEN: usize = 48;
const LAYERS: usize = 2;
const POSITIONS: usize = 24;
pub const WORDS: [&str; 10] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "##s", ".", "on"];

/// The parts of a folder, free to be spoiled before they are written.
#[derive(Clone)]
pub struct Tiny {
    /// JSON files by name.
    pub json: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Tiny {
    pub fn new() -> Self {
        let config = json!({
            "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
            "num_attention_heads": 4, "intermediate_size": HIDDEN, "hidden_act": "gelu",
            "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        });
        let mut tiny = Self { json: BTreeMap::new(), tensors: BTreeMap::new() };
        tiny.json.insert("config.json".to_owned(), config);
        tiny.fill();
        tiny
    }

    /// With an entry of a JSON file replaced, added or, by null, removed.
    pub fn with(mut self, file: &str, key: &str, value: Value) -> Self {
        let file = self.json.entry(file.to_owned()).or_insert_with(|| json!({}));
        let entries = file.as_object_mut().unwrap();
        if value.is_null() {
            entries.remove(key);
        } else {
            entries.insert(key.to_owned(), value);
        }
        self
    }

    pub fn with_file(mut self, file: &str, value: Value) -> Self {
        self.json.insert(file.to_owned(), value);
        self
    }

    pub fn without_tensor(mut self, name: &str) -> Self {
        assert!(self.tensors.remove(name).is_some(), "no tensor {name}");
        self
    }

    pub fn with_floats(mut self, name: &str, shape: &[usize], value: f32) -> Self {
        let bytes = value.to_le_bytes().repeat(shape.iter().product());
        self.tensors.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
        self
    }

    pub fn safetensors(&self) -> Vec<u8> {
        let view = |(name, tensor)| {
            let (dtype, shape, bytes): &(Dtype, Vec<usize>, Vec<u8>) = tensor;
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        };
        safetensors::serialize(self.tensors.iter().map(view), None).unwrap()
    }

    pub fn write(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, bytes: &[u8]| write(folder.path(), name, bytes);
        write("vocab.txt", WORDS.join("\n").as_bytes());
        write("model.safetensors", &self.safetensors());
        for (name, value) in &self.json {
            write(name, value.to_string().as_bytes());
        }
        folder
    }

    fn fill(&mut self) {
        let mut seed = 0_u32;
        let mut tensor = |name: String, shape: &[usize]| {
            seed += 1;
            let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
            let bytes = (0..shape.iter().product::<usize>()).flat_map(|_| {
                // Xorshift32: any spread of small weights will do.
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                ((f64::from(state) / f64::from(u32::MAX) - 0.5) as f32).to_le_bytes()
            });
            self.tensors.insert(name, (Dtype::F32, shape.to_vec(), bytes.collect()));
        };
        for (kind, rows) in [("word", WORDS.len()), ("position", POSITIONS), ("token_type", 2)] {
            tensor(format!("embeddings.{kind}_embeddings.weight"), &[rows, WIDTH]);
        }
        tensor("embeddings.LayerNorm.weight".to_owned(), &[WIDTH]);
        tensor("embeddings.LayerNorm.bias".to_owned(), &[WIDTH]);
        for layer in 0..LAYERS {
            let parts = [
                ("attention.self.query", WIDTH, WIDTH),
                ("attention.self.key", WIDTH, WIDTH),
                ("attention.self.value", WIDTH, WIDTH),
                ("attention.output.dense", WIDTH, WIDTH),
                ("intermediate.dense", HIDDEN, WIDTH),
                ("output.dense", WIDTH, HIDDEN),
            ];
            for (part, outputs, inputs) in parts {
                tensor(format!("encoder.layer.{layer}.{part}.weight"), &[outputs, inputs]);
                tensor(format!("encoder.layer.{layer}.{part}.bias"), &[outputs]);
            }
            for part in ["attention.output", "output"] {
                tensor(format!("encoder.layer.{layer}.{part}.LayerNorm.weight"), &[WIDTH]);
                tensor(format!("encoder.layer.{layer}.{part}.LayerNorm.bias"), &[WIDTH]);
            }
        }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
