//! Models of candle-transformers.
//!
//! They keep one KV cache inside, so every sequence gets a clone: weights are shared by reference, the cache is the
//! clone's own. A clone is dropped with its sequence and never recycled, because it also keeps every attention mask it
//! ever made; the one that is cloned never computes.

use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use candle_transformers::models::{quantized_glm4, quantized_llama, quantized_phi};

use super::checks::{Checks, MAX_LAYERS, MAX_WIDTH, backend, unsupported};
use super::{Family, Sequence};
use crate::EngineError;
use crate::gguf::{self, Gguf};

/// The families, by `general.architecture`.
pub(super) const FAMILIES: [&str; 3] = ["llama", "phi2", "glm4"];

/// Loads the model at `path`, of one of the families.
pub(super) fn load(
    path: &Path,
    gguf: &Gguf,
    vocabulary: u64,
    context_cap: usize,
) -> std::result::Result<Box<dyn Family>, EngineError> {
    let (mut file, device) = (gguf::open(path)?, Device::Cpu);
    Ok(match gguf.architecture()? {
        "llama" => {
            let (checks, sizes) = llama(gguf, vocabulary)?;
            let model = quantized_llama::ModelWeights::from_gguf(checks.content()?, &mut file, &device);
            sizes.family(model.map_err(backend)?, context_cap.min(quantized_llama::MAX_SEQ_LEN))
        }
        "phi2" => {
            let (checks, sizes) = phi2(gguf, vocabulary)?;
            let model = quantized_phi::ModelWeights::from_gguf(checks.content()?, &mut file, &device);
            sizes.family(model.map_err(backend)?, context_cap.min(quantized_phi::MAX_SEQ_LEN))
        }
        _ => {
            let (checks, sizes) = glm4(gguf, vocabulary)?;
            let context_cap = context_cap.min(sizes.context as usize);
            // Its table of rotations is as long.
            checks.tell("context_length", context_cap as u64);
            let content = checks.content()?;
            let model = quantized_glm4::ModelWeights::from_gguf(content, &mut file, &device, DType::F32);
            sizes.family(model.map_err(backend)?, context_cap)
        }
    })
}

/// A model whose clones share its weights and have caches of their own.
trait Weights: Clone + Send + 'static {
    /// Logits after the last of the tokens, of which the first stands at `position`.
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor>;
}

impl Weights for quantized_llama::ModelWeights {
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
        self.forward(tokens, position)
    }
}

impl Weights for quantized_phi::ModelWeights {
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
        self.forward(tokens, position)
    }
}

impl Weights for quantized_glm4::ModelWeights {
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
        self.forward(tokens, position)
    }
}

struct Loaded<W> {
    weights: W,
    context: usize,
    kv_bytes_per_token: u64,
}

impl<W: Weights> Family for Loaded<W> {
    fn context_length(&self) -> usize {
        self.context
    }

    fn kv_bytes_per_token(&self) -> u64 {
        self.kv_bytes_per_token
    }

    fn sequence(&self) -> Box<dyn Sequence> {
        Box::new(Copied { weights: self.weights.clone(), position: 0 })
    }
}

/// A clone of the model with the cache of one sequence.
struct Copied<W> {
    weights: W,
    position: usize,
}

impl<W: Weights> Sequence for Copied<W> {
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.position)?;
        self.position += tokens.len();
        logits.squeeze(0)?.to_vec1()
    }
}

/// Sizes that all families have.
struct Sizes {
    layers: u64,
    width: u64,
    heads: u64,
    kv_heads: u64,
    head_width: u64,
    hidden: u64,
    context: u64,
}

impl Sizes {
    fn read(checks: &Checks<'_>) -> std::result::Result<Self, EngineError> {
        let width = checks.number("embedding_length", MAX_WIDTH)?;
        let heads = checks.number("attention.head_count", width)?;
        let kv_heads = checks.number("attention.head_count_kv", heads)?;
        let context = checks.number("context_length", u64::from(u32::MAX))?;
        // These models attend to everything, which is the same up to the end of the window.
        let window = checks.optional("attention.sliding_window", u64::MAX)?.unwrap_or(context);
        checks.heads(width, heads, kv_heads)?;
        Ok(Self {
            layers: checks.number("block_count", MAX_LAYERS)?,
            width,
            heads,
            kv_heads,
            head_width: width / heads,
            hidden: checks.number("feed_forward_length", 16 * MAX_WIDTH)?,
            context: context.min(window),
        })
    }

    fn family<W: Weights>(&self, weights: W, context_cap: usize) -> Box<dyn Family> {
        let (key_and_value, f32_bytes) = (2, 4);
        let kv_bytes_per_token = self.layers * self.kv_heads * self.head_width * key_and_value * f32_bytes;
        let context = context_cap.min(self.context as usize);
        Box::new(Loaded { weights, context, kv_bytes_per_token })
    }
}

type Checked<'a> = std::result::Result<(Checks<'a>, Sizes), EngineError>;

fn llama(gguf: &Gguf, vocabulary: u64) -> Checked<'_> {
    let checks = Checks::new(gguf, "llama");
    if gguf.unsigned("llama.expert_count").unwrap_or(0) > 1 {
        return Err(unsupported("llama.expert_count", "above 1".to_owned(), "dense models"));
    }
    let sizes = Sizes::read(&checks)?;
    let Sizes { width, hidden, head_width, .. } = sizes;
    let rotated = checks.number("rope.dimension_count", width)?;
    rotates(&checks, rotated, head_width)?;
    checks.float("attention.layer_norm_rms_epsilon", true)?;
    checks.float("rope.freq_base", false)?;
    let kv_width = sizes.kv_heads * head_width;
    checks.tensor("token_embd.weight", &[vocabulary, width])?;
    checks.tensor("output_norm.weight", &[width])?;
    checks.optional_tensor("output.weight", &[vocabulary, width])?;
    for layer in 0..sizes.layers {
        let tensor =
            |part: &str, expected: &[u64]| checks.tensor(&format!("blk.{layer}.{part}.weight"), expected);
        tensor("attn_norm", &[width])?;
        tensor("attn_q", &[width, width])?;
        tensor("attn_k", &[kv_width, width])?;
        tensor("attn_v", &[kv_width, width])?;
        tensor("attn_output", &[width, width])?;
        tensor("ffn_norm", &[width])?;
        tensor("ffn_gate", &[hidden, width])?;
        tensor("ffn_up", &[hidden, width])?;
        tensor("ffn_down", &[width, hidden])?;
    }
    checks.unscaled_rotations()?;
    Ok((checks, sizes))
}

fn phi2(gguf: &Gguf, vocabulary: u64) -> Checked<'_> {
    let checks = Checks::new(gguf, "phi2");
    let sizes = Sizes::read(&checks)?;
    let Sizes { width, hidden, .. } = sizes;
    if sizes.heads != sizes.kv_heads {
        let found = format!("{} of {} heads", sizes.kv_heads, sizes.heads);
        return Err(unsupported(&checks.key("attention.head_count_kv"), found, "as many as heads"));
    }
    let rotated = checks.number("rope.dimension_count", sizes.head_width)?;
    rotates(&checks, rotated, rotated)?;
    checks.float("attention.layer_norm_epsilon", true)?;
    if let Some(base) = checks.float("rope.freq_base", false)?.filter(|base| *base != 10_000.0) {
        return Err(unsupported(&checks.key("rope.freq_base"), base.to_string(), "10000"));
    }
    let linear = |name: &str, outputs: u64, inputs: u64| {
        checks.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        checks.tensor(&format!("{name}.bias"), &[outputs])
    };
    let norm = |name: &str| {
        checks.tensor(&format!("{name}.weight"), &[width])?;
        checks.tensor(&format!("{name}.bias"), &[width])
    };
    checks.tensor("token_embd.weight", &[vocabulary, width])?;
    norm("output_norm")?;
    linear("output", vocabulary, width)?;
    for layer in 0..sizes.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        norm(&name("attn_norm"))?;
        linear(&name("attn_qkv"), 3 * width, width)?;
        linear(&name("attn_output"), width, width)?;
        linear(&name("ffn_up"), hidden, width)?;
        linear(&name("ffn_down"), width, hidden)?;
    }
    checks.unscaled_rotations()?;
    Ok((checks, sizes))
}

fn glm4(gguf: &Gguf, vocabulary: u64) -> Checked<'_> {
    let checks = Checks::new(gguf, "glm4");
    let mut sizes = Sizes::read(&checks)?;
    let Sizes { width, hidden, heads, kv_heads, .. } = sizes;
    let head_width = checks.optional("attention.key_length", MAX_WIDTH)?.unwrap_or(sizes.head_width);
    sizes.head_width = checks.tell("attention.key_length", head_width);
    // candle rotates the first half of a head, whatever the file says.
    let rotated = checks.number("rope.dimension_count", head_width)?;
    rotates(&checks, rotated, head_width / 2)?;
    checks.float("attention.layer_norm_rms_epsilon", true)?;
    checks.float("rope.freq_base", true)?;
    let (queries, kv_width) = (heads * head_width, kv_heads * head_width);
    checks.tensor("token_embd.weight", &[vocabulary, width])?;
    checks.tensor("output_norm.weight", &[width])?;
    checks.optional_tensor("output.weight", &[vocabulary, width])?;
    for layer in 0..sizes.layers {
        let tensor =
            |part: &str, expected: &[u64]| checks.tensor(&format!("blk.{layer}.{part}.weight"), expected);
        for norm in ["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"] {
            tensor(norm, &[width])?;
        }
        for (part, outputs) in [("attn_q", queries), ("attn_k", kv_width), ("attn_v", kv_width)] {
            tensor(part, &[outputs, width])?;
            checks.optional_tensor(&format!("blk.{layer}.{part}.bias"), &[outputs])?;
        }
        tensor("attn_output", &[width, queries])?;
        tensor("ffn_up", &[2 * hidden, width])?;
        tensor("ffn_down", &[width, hidden])?;
    }
    checks.unscaled_rotations()?;
    Ok((checks, sizes))
}

/// The number of rotated values of a head is the one that candle takes, and even.
fn rotates(checks: &Checks<'_>, rotated: u64, expected: u64) -> std::result::Result<(), EngineError> {
    if rotated == expected && rotated.is_multiple_of(2) {
        return Ok(());
    }
    let supported = format!("{expected} if that is even");
    Err(unsupported(&checks.key("rope.dimension_count"), rotated.to_string(), &supported))
}
