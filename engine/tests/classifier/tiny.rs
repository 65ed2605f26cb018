//! Small networks of random weights, and ways to spoil them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dividend_engine::EngineError;
use dividend_engine::classifier::{Classifier, ClassifierOptions};
use dividend_engine::safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A description and its tensors, free to be spoiled before they are written.
#[derive(Clone)]
pub struct Tiny {
    pub description: Value,
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Tiny {
    fn new(input: Value, layers: Value, output: &str, labels: &[&str], tensors: &[(&str, &[usize])]) -> Self {
        let description = json!({"schema": "classifier/1", "input": input, "layers": layers, "output": output, "labels": labels});
        let mut tiny = Self { description, tensors: BTreeMap::new() };
        for (seed, (name, shape)) in (1..).zip(tensors) {
            // Variances must not be below 0; the others may be anything.
            let (low, high) = if name.ends_with("running_var") { (0.5, 1.5) } else { (-0.5, 0.5) };
            let values = noise(seed, shape.iter().product()).map(|value| low + value * (high - low));
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            tiny.tensors.insert((*name).to_owned(), (Dtype::F32, shape.to_vec(), bytes));
        }
        tiny
    }

    pub fn perceptron() -> Self {
        Self::new(
            json!({"shape": [6], "mean": [0.0, 1.0, 2.0, 0.0, 0.5, 0.25], "std": [1.0, 2.0, 0.5, 3.0, 1.0, 1.5]}),
            json!([
                {"type": "linear", "name": "first", "outputs": 16}, {"type": "relu"},
                {"type": "layer_norm", "name": "norm"},
                {"type": "linear", "name": "second", "outputs": 8, "bias": false}, {"type": "gelu"},
                {"type": "linear", "name": "last", "outputs": 3},
            ]),
            "softmax",
            &["low", "middle", "high"],
            &[
                ("first.weight", &[16, 6]),
                ("first.bias", &[16]),
                ("norm.weight", &[16]),
                ("norm.bias", &[16]),
                ("second.weight", &[8, 16]),
                ("last.weight", &[3, 8]),
                ("last.bias", &[3]),
            ],
        )
    }

    pub fn signal() -> Self {
        Self::new(
            json!({"shape": [2, 12], "mean": [0.5, -0.5]}),
            json!([
                {"type": "conv1d", "name": "one", "outputs": 4, "kernel": 3, "padding": 1},
                {"type": "batch_norm", "name": "norm"}, {"type": "relu"}, {"type": "max_pool", "kernel": 3, "stride": 2},
                {"type": "conv1d", "name": "two", "outputs": 6, "kernel": 2, "stride": 2, "bias": false}, {"type": "tanh"},
                {"type": "avg_pool", "kernel": 2}, {"type": "flatten"},
                {"type": "linear", "name": "last", "outputs": 4},
            ]),
            "sigmoid",
            &["a", "b", "c", "d"],
            &[
                ("one.weight", &[4, 2, 3]),
                ("one.bias", &[4]),
                ("norm.weight", &[4]),
                ("norm.bias", &[4]),
                ("norm.running_mean", &[4]),
                ("norm.running_var", &[4]),
                ("two.weight", &[6, 4, 2]),
                ("last.weight", &[4, 6]),
                ("last.bias", &[4]),
            ],
        )
    }

    pub fn image() -> Self {
        Self::new(
            json!({"shape": [3, 9, 8]}),
            json!([
                {"type": "conv2d", "name": "one", "outputs": 4, "kernel": 3, "stride": 2, "padding": 1},
                {"type": "batch_norm", "name": "norm", "epsilon": 1e-3}, {"type": "sigmoid"},
                {"type": "conv2d", "name": "two", "outputs": 5, "kernel": 2}, {"type": "gelu"},
                {"type": "avg_pool", "kernel": 2, "stride": 1}, {"type": "max_pool", "kernel": 2}, {"type": "flatten"},
                {"type": "linear", "name": "last", "outputs": 2},
            ]),
            "none",
            &["cat", "dog"],
            &[
                ("one.weight", &[4, 3, 3, 3]),
                ("one.bias", &[4]),
                ("norm.weight", &[4]),
                ("norm.bias", &[4]),
                ("norm.running_mean", &[4]),
                ("norm.running_var", &[4]),
                ("two.weight", &[5, 4, 2, 2]),
                ("two.bias", &[5]),
                ("last.weight", &[2, 5]),
                ("last.bias", &[2]),
            ],
        )
    }

    pub fn text() -> Self {
        Self::new(
            json!({"shape": [10]}),
            json!([
                {"type": "embedding", "name": "words", "rows": 12, "width": 8},
                {"type": "conv1d", "name": "one", "outputs": 6, "kernel": 3}, {"type": "relu"},
                {"type": "max_pool", "kernel": 8}, {"type": "flatten"},
                {"type": "linear", "name": "last", "outputs": 2},
            ]),
            "softmax",
            &["spam", "ham"],
            &[
                ("words.weight", &[12, 8]),
                ("one.weight", &[6, 8, 3]),
                ("one.bias", &[6]),
                ("last.weight", &[2, 6]),
                ("last.bias", &[2]),
            ],
        )
    }

    pub fn all() -> [Self; 4] {
        [Self::perceptron(), Self::signal(), Self::image(), Self::text()]
    }

    /// Inputs that the network takes.
    pub fn inputs(&self, count: usize) -> Vec<Vec<f32>> {
        let shape = self.description["input"]["shape"].as_array().unwrap().iter();
        let length = shape.map(|side| side.as_u64().unwrap() as usize).product();
        let ids = self.description["layers"][0]["type"] == "embedding";
        let value = move |value: f32| if ids { (value * 12.0).floor() } else { 4.0 * value - 2.0 };
        (100..).take(count).map(|seed| noise(seed, length).map(value).collect()).collect()
    }

    /// With the value at a JSON pointer replaced or added.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match self.description.pointer_mut(parent).unwrap() {
            Value::Array(values) => values[key.parse::<usize>().unwrap()] = value,
            parent => parent[key] = value,
        }
        self
    }

    pub fn with_tensor(mut self, name: &str, shape: &[usize], value: f32) -> Self {
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

    pub fn load(&self) -> Result<Classifier, EngineError> {
        let (_folder, description, weights) = self.write(&self.safetensors());
        Classifier::load(&description, &weights, ClassifierOptions::default())
    }

    pub fn write(&self, weights: &[u8]) -> (TempDir, PathBuf, PathBuf) {
        let folder = TempDir::new().unwrap();
        let paths = ["classifier.json", "classifier.safetensors"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], self.description.to_string()).unwrap();
        std::fs::write(&paths[1], weights).unwrap();
        let [description, file] = paths;
        (folder, description, file)
    }
}

/// Values from 0 to below 1 that depend on the seed.
fn noise(seed: u64, count: usize) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        // Xorshift64: any spread will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    })
}
