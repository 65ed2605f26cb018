//! Adapters as PEFT writes them, with random weights that depend on the seed.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize};

/// The sizes of a base, by the names of transformers' modules: outputs and inputs.
pub type Modules = Vec<(&'static str, usize, usize)>;

/// An adapter to write.
#[derive(Debug, Clone)]
pub struct Peft {
    /// Modules of each layer.
    pub modules: Modules,
    pub layers: usize,
    pub rank: usize,
    pub alpha: f64,
    pub stabilised: bool,
    pub dtype: Dtype,
    pub seed: u64,
    /// What A·x of x of unit variance has, and what is added to the base's outputs before the factor, about.
    pub strength: f32,
}

impl Peft {
    pub fn new(modules: Modules, layers: usize, seed: u64) -> Self {
        let (rank, alpha, stabilised, dtype, strength) = (16, 16.0, false, Dtype::F32, 0.5);
        Self { modules, layers, rank, alpha, stabilised, dtype, seed, strength }
    }

    /// The matrices of one module: A, rank by inputs, and B, outputs by rank, as they are read back from the file.
    pub fn matrices(&self, layer: usize, module: usize) -> [Vec<f32>; 2] {
        let (_, outputs, inputs) = self.modules[module];
        let seed = (self.seed << 20) + ((layer * self.modules.len() + module) as u64) * 2;
        let matrix = |seed: u64, count: usize, size: f32| -> Vec<f32> {
            noise(seed, count).map(|value| self.rounded(value * size)).collect()
        };
        let root = |count: usize| (count as f32).sqrt();
        [
            matrix(seed, self.rank * inputs, 1.7 / root(inputs)),
            matrix(seed + 1, outputs * self.rank, 1.7 * self.strength / root(self.rank)),
        ]
    }

    fn rounded(&self, value: f32) -> f32 {
        match self.dtype {
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::BF16 => bf16::from_f32(value).to_f32(),
            _ => value,
        }
    }

    fn bytes(&self, values: &[f32]) -> Vec<u8> {
        let number = |value: &f32| match self.dtype {
            Dtype::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        values.iter().flat_map(number).collect()
    }

    /// The tensors by PEFT's names, with their shapes and bytes.
    pub fn tensors(&self) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
        let mut tensors = BTreeMap::new();
        for layer in 0..self.layers {
            for (index, (module, outputs, inputs)) in self.modules.iter().enumerate() {
                let parent = if module.contains("gate") || module.contains("up") || module.contains("down") {
                    "mlp"
                } else {
                    "self_attn"
                };
                let name = |side: &str| {
                    format!("base_model.model.model.layers.{layer}.{parent}.{module}.lora_{side}.weight")
                };
                let [a, b] = self.matrices(layer, index).map(|values| self.bytes(&values));
                tensors.insert(name("A"), (vec![self.rank, *inputs], a));
                tensors.insert(name("B"), (vec![*outputs, self.rank], b));
            }
        }
        tensors
    }

    /// The text of `adapter_config.json`.
    pub fn config(&self) -> String {
        let modules: Vec<&str> = self.modules.iter().map(|(name, _, _)| *name).collect();
        let (rank, alpha, stabilised) = (self.rank, self.alpha, self.stabilised);
        serde_json::json!({
            "base_model_name_or_path": "synthetic", "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
            "lora_alpha": alpha, "lora_dropout": 0.0, "modules_to_save": null, "peft_type": "LORA", "r": rank,
            "target_modules": modules, "task_type": "CAUSAL_LM", "use_dora": false, "use_rslora": stabilised,
        })
        .to_string()
    }

    /// Writes both files into a folder, which is made.
    pub fn write(&self, folder: &Path) {
        write(folder, &self.config(), self.dtype, &self.tensors());
    }
}

/// Writes an adapter of these tensors.
pub fn write(folder: &Path, config: &str, dtype: Dtype, tensors: &BTreeMap<String, (Vec<usize>, Vec<u8>)>) {
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (
            name.as_str(),
            TensorView::new(dtype, shape.clone(), bytes).expect("as many bytes as the shape says"),
        )
    });
    let file = serialize(views, None).expect("tensors of sound shapes");
    std::fs::create_dir_all(folder).expect("a folder that can be made");
    std::fs::write(folder.join("adapter_config.json"), config).expect("room on the disk");
    std::fs::write(folder.join("adapter_model.safetensors"), file).expect("room on the disk");
}

/// Values from -1 to 1.
fn noise(seed: u64, count: usize) -> impl Iterator<Item = f32> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as i32 as f32 / 2.0_f32.powi(31)
    })
}
