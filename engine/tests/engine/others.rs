//! Small models of the families that only candle computes, in its own file format.

use std::path::PathBuf;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tempfile::TempDir;

pub const WIDTH: usize = 64;
const HEADS: usize = 4;
const HEAD_WIDTH: usize = WIDTH / HEADS;
const HIDDEN: usize = 96;
const LAYERS: usize = 2;

/// Their names.
pub const FAMILIES: [&str; 2] = ["phi2", "glm4"];

pub type Metadata = Vec<(String, Value)>;

/// The metadata of a small "phi2" or "glm4".
pub fn metadata(family: &str) -> Metadata {
    let count = |key: &str, value: usize| (format!("{family}.{key}"), Value::U32(value as u32));
    let epsilon = if family == "phi2" { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    vec![
        ("general.architecture".to_owned(), Value::String(family.to_owned())),
        count("block_count", LAYERS),
        count("context_length", 256),
        count("embedding_length", WIDTH),
        count("feed_forward_length", HIDDEN),
        count("attention.head_count", HEADS),
        count("attention.head_count_kv", kv_heads(family)),
        count("rope.dimension_count", HEAD_WIDTH / 2),
        (format!("{family}.attention.{epsilon}"), Value::F32(1e-5)),
        (format!("{family}.rope.freq_base"), Value::F32(10_000.0)),
    ]
}

/// Writes the model with this metadata into a folder that lives as long as the first of the pair.
pub fn write(family: &str, vocabulary: usize, metadata: &Metadata) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("other.gguf");
    let tensors = tensors(family, vocabulary);
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut file = std::fs::File::create(&path).expect("a writable folder");
    gguf_file::write(&mut file, &metadata, &tensors).expect("a model that candle can write");
    (folder, path)
}

fn kv_heads(family: &str) -> usize {
    if family == "phi2" { HEADS } else { 2 }
}

fn tensors(family: &str, vocabulary: usize) -> Vec<(String, QTensor)> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], mean: f64| {
        let noise = Noise(tensors.len() as u64 + 1).take(shape.iter().product());
        let spread = if mean == 0.0 { 2.0 / (shape[shape.len() - 1] as f64).sqrt() } else { 0.25 };
        let values = noise.map(|value| (mean + spread * value) as f32);
        let tensor = Tensor::from_iter(values, &Device::Cpu).and_then(|tensor| tensor.reshape(shape));
        let tensor = tensor.and_then(|tensor| QTensor::quantize(&tensor, GgmlDType::F32));
        tensors.push((name, tensor.expect("plain values")));
    };
    add("token_embd.weight".to_owned(), &[vocabulary, WIDTH], 0.0);
    add("output_norm.weight".to_owned(), &[WIDTH], 1.0);
    add("output.weight".to_owned(), &[vocabulary, WIDTH], 0.0);
    let kv = kv_heads(family) * HEAD_WIDTH;
    if family == "phi2" {
        add("output_norm.bias".to_owned(), &[WIDTH], 0.0);
        add("output.bias".to_owned(), &[vocabulary], 0.0);
    }
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let products: &[(&str, usize, usize)] = if family == "phi2" {
            &[("attn_qkv", 3 * WIDTH, WIDTH), ("ffn_up", HIDDEN, WIDTH)]
        } else {
            &[
                ("attn_q", WIDTH, WIDTH),
                ("attn_k", kv, WIDTH),
                ("attn_v", kv, WIDTH),
                ("ffn_up", 2 * HIDDEN, WIDTH),
            ]
        };
        for (part, outputs, inputs) in
            products.iter().chain(&[("attn_output", WIDTH, WIDTH), ("ffn_down", WIDTH, HIDDEN)])
        {
            add(name(&format!("{part}.weight")), &[*outputs, *inputs], 0.0);
            if family == "phi2" || matches!(*part, "attn_q" | "attn_k" | "attn_v") {
                add(name(&format!("{part}.bias")), &[*outputs], 0.0);
            }
        }
        add(name("attn_norm.weight"), &[WIDTH], 1.0);
        if family == "phi2" {
            add(name("attn_norm.bias"), &[WIDTH], 0.0);
        } else {
            for part in ["ffn_norm", "post_attention_norm", "post_ffw_norm"] {
                add(name(&format!("{part}.weight")), &[WIDTH], 1.0);
            }
        }
    }
    tensors
}

/// Values from -1 to 1 that depend on the seed.
struct Noise(u64);

impl Iterator for Noise {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        // The multiplier of splitmix64, then xorshift: any spread will do.
        self.0 = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (self.0 >> 27);
        Some((self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)
    }
}
