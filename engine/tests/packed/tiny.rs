//! Models of a few thousand random weights, of every architecture.

use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tempfile::TempDir;

/// The sizes of a small model.
#[derive(Debug, Clone)]
pub struct Tiny {
    pub family: &'static str,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub hidden: usize,
    pub layers: usize,
    pub vocabulary: usize,
    pub window: Option<usize>,
    /// The head is the embedding.
    pub tied: bool,
    /// Formats of the matrices, in turn.
    pub formats: Vec<GgmlDType>,
}

impl Tiny {
    /// A model of `family`, in f32.
    pub fn new(family: &'static str) -> Self {
        let gemma = family == "gemma3";
        Self {
            family,
            width: 64,
            heads: 4,
            kv_heads: if gemma { 1 } else { 2 },
            head_width: if matches!(family, "gemma3" | "qwen3") { 32 } else { 16 },
            hidden: 96,
            layers: if gemma { 7 } else { 3 },
            vocabulary: 50,
            window: gemma.then_some(12),
            tied: gemma,
            formats: vec![GgmlDType::F32],
        }
    }

    pub fn all() -> impl Iterator<Item = Self> {
        ["llama", "qwen2", "qwen3", "gemma3", "phi3"].into_iter().map(Self::new)
    }

    /// Writes the model into a folder that lives as long as the first of the pair.
    pub fn write(&self) -> (TempDir, PathBuf) {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("tiny.gguf");
        self.write_to(&path, &self.metadata()).expect("a model that candle can write");
        (folder, path)
    }

    /// The same with one entry of the metadata replaced or added.
    pub fn write_with(&self, key: &str, value: Value) -> (TempDir, PathBuf) {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("tiny.gguf");
        let mut metadata = self.metadata();
        metadata.retain(|(name, _)| name != key);
        metadata.push((key.to_owned(), value));
        self.write_to(&path, &metadata).expect("a model that candle can write");
        (folder, path)
    }

    fn write_to(&self, path: &Path, metadata: &[(String, Value)]) -> candle_core::Result<()> {
        let tensors = self.tensors()?;
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        gguf_file::write(&mut std::fs::File::create(path)?, &metadata, &tensors)
    }

    pub fn metadata(&self) -> Vec<(String, Value)> {
        let family = self.family;
        let count = |key: &str, value: usize| (format!("{family}.{key}"), Value::U32(value as u32));
        let float = |key: &str, value: f32| (format!("{family}.{key}"), Value::F32(value));
        let mut metadata = vec![
            ("general.architecture".to_owned(), Value::String(family.to_owned())),
            // Single precision: candle's Qwen 3 keeps to it.
            ("general.dtype".to_owned(), Value::U32(0)),
            count("block_count", self.layers),
            count("context_length", 256),
            count("embedding_length", self.width),
            count("feed_forward_length", self.hidden),
            count("attention.head_count", self.heads),
            count("attention.head_count_kv", self.kv_heads),
            count("attention.key_length", self.head_width),
            count("attention.value_length", self.head_width),
            count("rope.dimension_count", self.head_width),
            float("attention.layer_norm_rms_epsilon", 1e-5),
            float("rope.freq_base", 10_000.0),
        ];
        metadata.extend(self.window.map(|window| count("attention.sliding_window", window)));
        metadata
    }

    fn tensors(&self) -> candle_core::Result<Vec<(String, QTensor)>> {
        let mut builder = Builder { formats: &self.formats, tensors: Vec::new() };
        let Self { width, hidden, head_width, vocabulary, .. } = *self;
        let (queries, kv) = (self.heads * head_width, self.kv_heads * head_width);
        builder.matrix("token_embd", vocabulary, width)?;
        builder.vector("output_norm.weight", width, 1.0)?;
        if !self.tied {
            builder.matrix("output", vocabulary, width)?;
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            builder.vector(&name("attn_norm.weight"), width, 1.0)?;
            builder.vector(&name("ffn_norm.weight"), width, 1.0)?;
            builder.matrix(&name("attn_output"), width, queries)?;
            builder.matrix(&name("ffn_down"), width, hidden)?;
            if self.family == "phi3" {
                builder.matrix(&name("attn_qkv"), queries + 2 * kv, width)?;
                builder.matrix(&name("ffn_up"), 2 * hidden, width)?;
            } else {
                for (part, outputs) in [("attn_q", queries), ("attn_k", kv), ("attn_v", kv)] {
                    builder.matrix(&name(part), outputs, width)?;
                    if self.family == "qwen2" {
                        builder.vector(&name(&format!("{part}.bias")), outputs, 0.0)?;
                    }
                }
                builder.matrix(&name("ffn_gate"), hidden, width)?;
                builder.matrix(&name("ffn_up"), hidden, width)?;
            }
            if matches!(self.family, "qwen3" | "gemma3") {
                builder.vector(&name("attn_q_norm.weight"), head_width, 1.0)?;
                builder.vector(&name("attn_k_norm.weight"), head_width, 1.0)?;
            }
            if self.family == "gemma3" {
                builder.vector(&name("post_attention_norm.weight"), width, 1.0)?;
                builder.vector(&name("post_ffw_norm.weight"), width, 1.0)?;
            }
        }
        Ok(builder.tensors)
    }
}

struct Builder<'a> {
    formats: &'a [GgmlDType],
    tensors: Vec<(String, QTensor)>,
}

impl Builder<'_> {
    fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) -> candle_core::Result<()> {
        let values =
            noise(self.tensors.len(), outputs * inputs).map(|value| 2.0 * value / (inputs as f32).sqrt());
        let tensor = Tensor::from_iter(values, &Device::Cpu)?.reshape((outputs, inputs))?;
        let format = self.formats[self.tensors.len() % self.formats.len()];
        self.tensors.push((format!("{name}.weight"), QTensor::quantize(&tensor, format)?));
        Ok(())
    }

    fn vector(&mut self, name: &str, length: usize, mean: f32) -> candle_core::Result<()> {
        let values = noise(self.tensors.len(), length).map(|value| mean + value / 4.0);
        let tensor = Tensor::from_iter(values, &Device::Cpu)?;
        self.tensors.push((name.to_owned(), QTensor::quantize(&tensor, GgmlDType::F32)?));
        Ok(())
    }
}

/// Values from -1 to 1 that depend on the seed.
fn noise(seed: usize, count: usize) -> impl Iterator<Item = f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as i32 as f32 / 2.0_f32.powi(31)
    })
}
