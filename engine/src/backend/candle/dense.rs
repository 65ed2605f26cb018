//! The families that the packed kernels know, in candle's own operations and formats.
//!
//! What a family does is the data that the packed kernels go by ([`Architecture`]); a sequence owns its keys and values.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::QMatMul;
use candle_core::quantized::gguf_file::Content;
use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};

use super::checks::{Checks, backend, inconsistent};
use super::{Family, Sequence};
use crate::EngineError;
use crate::gguf::{self, Gguf};
use crate::packed::{Activation, Architecture, Pairs, Rotation};

/// The families, by `general.architecture`.
pub(super) const FAMILIES: [&str; 4] = ["qwen2", "qwen3", "gemma3", "phi3"];

/// A loaded model.
pub(super) struct Dense {
    model: Arc<Model>,
    context: usize,
}

struct Model {
    architecture: Architecture,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: QMatMul,
    /// For each of the architecture's rotations, the angle per position of each pair.
    frequencies: Vec<Vec<f64>>,
}

struct Layer {
    attention_norm: Tensor,
    /// Queries, keys, values; one after the other in one product where the family fuses them.
    projections: Vec<Linear>,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    output: Linear,
    attention_post_norm: Option<Tensor>,
    feed_norm: Tensor,
    /// Gate and up, likewise.
    feed: Vec<QMatMul>,
    down: Linear,
    feed_post_norm: Option<Tensor>,
}

struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Dense {
    /// Loads the file at `path`, whose header is `gguf`, for a tokenizer of `vocabulary` tokens.
    pub(super) fn load(
        path: &Path,
        gguf: &Gguf,
        vocabulary: usize,
        context_cap: usize,
    ) -> std::result::Result<Self, EngineError> {
        let architecture = Architecture::read(gguf)?;
        if architecture.vocabulary < vocabulary {
            let detail =
                format!("the tokenizer has {vocabulary} tokens, the embedding {}", architecture.vocabulary);
            return Err(inconsistent("token_embd.weight", detail));
        }
        let checks = Checks::new(gguf, architecture.family);
        check_tensors(&architecture, &checks)?;
        let tied = !checks.has("output.weight");
        let mut reader = Reader { content: checks.content()?, file: gguf::open(path)? };
        let context = architecture.context.min(context_cap);
        let model = reader.model(architecture, tied).map_err(backend)?;
        Ok(Self { model: Arc::new(model), context })
    }
}

impl Family for Dense {
    fn context_length(&self) -> usize {
        self.context
    }

    fn kv_bytes_per_token(&self) -> u64 {
        let architecture = &self.model.architecture;
        let (key_and_value, f32_bytes) = (2, 4);
        (architecture.layers.len() * architecture.kv_width() * key_and_value * f32_bytes) as u64
    }

    fn sequence(&self) -> Box<dyn Sequence> {
        let caches = self.model.layers.iter().map(|_| None).collect();
        Box::new(DenseSequence { model: Arc::clone(&self.model), caches, position: 0 })
    }
}

/// One sequence: the keys and values of each layer, heads × positions × head width.
struct DenseSequence {
    model: Arc<Model>,
    caches: Vec<Option<(Tensor, Tensor)>>,
    position: usize,
}

impl Sequence for DenseSequence {
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let logits = self.model.forward(tokens, self.position, &mut self.caches)?;
        self.position += tokens.len();
        Ok(logits)
    }
}

impl Model {
    fn forward(
        &self,
        tokens: &[u32],
        position: usize,
        caches: &mut [Option<(Tensor, Tensor)>],
    ) -> Result<Vec<f32>> {
        let Architecture { epsilon, embedding_scale, logit_cap, .. } = self.architecture;
        let count = tokens.len();
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut stream = (self.embedding.index_select(&ids, 0)? * f64::from(embedding_scale))?;
        let angles: Vec<_> =
            self.frequencies.iter().map(|one| angles(one, position, count)).collect::<Result<_>>()?;
        for ((layer, kind), cache) in self.layers.iter().zip(&self.architecture.layers).zip(caches) {
            let input = rms_norm(&stream, &layer.attention_norm, epsilon)?;
            let mask = mask(position, count, kind.window)?;
            let rotation = (&self.architecture.rotations[kind.rotation], &angles[kind.rotation]);
            let attended = self.attention(layer, &input, rotation, mask.as_ref(), cache)?;
            stream = (stream + post_norm(attended, layer.attention_post_norm.as_ref(), epsilon)?)?;
            let input = rms_norm(&stream, &layer.feed_norm, epsilon)?;
            let fed = self.feed(layer, &input)?;
            stream = (stream + post_norm(fed, layer.feed_post_norm.as_ref(), epsilon)?)?;
        }
        let last = rms_norm(&stream.narrow(0, count - 1, 1)?.contiguous()?, &self.norm, epsilon)?;
        soft_cap(last.apply(&self.head)?, logit_cap)?.flatten_all()?.to_vec1()
    }

    fn attention(
        &self,
        layer: &Layer,
        input: &Tensor,
        rotation: (&Rotation, &(Tensor, Tensor)),
        mask: Option<&Tensor>,
        cache: &mut Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let architecture = &self.architecture;
        let Architecture { heads, kv_heads, head_width, .. } = *architecture;
        let count = input.dim(0)?;
        let widths = [architecture.query_width(), architecture.kv_width(), architecture.kv_width()];
        let [queries, keys, values] = split(input, &layer.projections, widths)?;
        let by_head =
            |x: Tensor, heads: usize| x.reshape((count, heads, head_width))?.transpose(0, 1)?.contiguous();
        let turned = |x: Tensor, heads: usize, norm: Option<&Tensor>| {
            rotate(&post_norm(by_head(x, heads)?, norm, architecture.epsilon)?, rotation)
        };
        let queries = turned(queries, heads, layer.query_norm.as_ref())?;
        let (mut keys, mut values) =
            (turned(keys, kv_heads, layer.key_norm.as_ref())?, by_head(values, kv_heads)?);
        if let Some((old_keys, old_values)) = cache.take() {
            keys = Tensor::cat(&[&old_keys, &keys], 1)?;
            values = Tensor::cat(&[&old_values, &values], 1)?;
        }
        // The query heads of a group are rows of one product with the key head that they share.
        let queries = queries.reshape((kv_heads, architecture.group() * count, head_width))?;
        let scores = (queries.matmul(&keys.t()?)? * f64::from(architecture.attention_scale))?;
        let scores = soft_cap(scores, architecture.attention_cap)?.reshape((heads, count, ()))?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let shares = softmax_last_dim(&scores)?.reshape((kv_heads, architecture.group() * count, ()))?;
        let mixed = shares.matmul(&values)?.reshape((heads, count, head_width))?;
        *cache = Some((keys, values));
        let mixed = mixed.transpose(0, 1)?.contiguous()?.reshape((count, heads * head_width))?;
        layer.output.forward(&mixed)
    }

    fn feed(&self, layer: &Layer, input: &Tensor) -> Result<Tensor> {
        let hidden = self.architecture.hidden;
        let (gate, up) = match &layer.feed[..] {
            [fused] => {
                let both = input.apply(fused)?;
                (both.narrow(D::Minus1, 0, hidden)?, both.narrow(D::Minus1, hidden, hidden)?)
            }
            [gate, up, ..] => (input.apply(gate)?, input.apply(up)?),
            [] => candle_core::bail!("a layer without a feed-forward part"),
        };
        let gate = match self.architecture.activation {
            Activation::Silu => gate.silu()?,
            Activation::Gelu => gate.gelu()?,
        };
        layer.down.forward(&(gate * up)?)
    }
}

impl Linear {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let product = input.apply(&self.weight)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// The products of the projections, of these widths, whether they are one tensor or three.
fn split(input: &Tensor, projections: &[Linear], widths: [usize; 3]) -> Result<[Tensor; 3]> {
    match projections {
        [one, other, another] => Ok([one.forward(input)?, other.forward(input)?, another.forward(input)?]),
        [fused, ..] => {
            let all = fused.forward(input)?;
            let part = |start, width| all.narrow(D::Minus1, start, width)?.contiguous();
            let [queries, keys, values] = widths;
            Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, values)?])
        }
        [] => candle_core::bail!("a layer without projections"),
    }
}

/// `x` normalised, where the family does that.
fn post_norm(x: Tensor, factors: Option<&Tensor>, epsilon: f32) -> Result<Tensor> {
    factors.map_or_else(|| Ok(x.clone()), |factors| rms_norm(&x, factors, epsilon))
}

/// cap · tanh(x / cap), where the family does that.
fn soft_cap(x: Tensor, cap: Option<f32>) -> Result<Tensor> {
    match cap.map(f64::from) {
        Some(cap) => (x / cap)?.tanh()? * cap,
        None => Ok(x),
    }
}

/// What is added to the scores of `count` queries from `position` on; `None` for nothing.
fn mask(position: usize, count: usize, window: Option<usize>) -> Result<Option<Tensor>> {
    let positions = position + count;
    if count == 1 && window.is_none_or(|window| positions <= window) {
        return Ok(None);
    }
    let hidden = |query: usize, key: usize| key > query || window.is_some_and(|window| query - key >= window);
    let row = |query: usize| {
        (0..positions).map(move |key| if hidden(query, key) { f32::NEG_INFINITY } else { 0.0 })
    };
    let values = (position..positions).flat_map(row).collect::<Vec<f32>>();
    Tensor::from_vec(values, (count, positions), &Device::Cpu).map(Some)
}

/// Cosines and sines of `count` positions.
fn angles(frequencies: &[f64], position: usize, count: usize) -> Result<(Tensor, Tensor)> {
    let all =
        || (position..position + count).flat_map(|at| frequencies.iter().map(move |one| at as f64 * one));
    let table = |values: Vec<f32>| Tensor::from_vec(values, (count, frequencies.len()), &Device::Cpu);
    Ok((
        table(all().map(|angle| angle.cos() as f32).collect())?,
        table(all().map(|angle| angle.sin() as f32).collect())?,
    ))
}

/// Heads × positions × head width, the first values of each head rotated.
fn rotate(x: &Tensor, (rotation, (cosines, sines)): (&Rotation, &(Tensor, Tensor))) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let turned = x.narrow(D::Minus1, 0, rotation.rotated)?.contiguous()?.unsqueeze(0)?;
    let turned = match rotation.pairs {
        Pairs::Adjacent => rope_i(&turned, cosines, sines)?,
        Pairs::Halves => rope(&turned, cosines, sines)?,
    };
    let turned = turned.squeeze(0)?;
    if rotation.rotated == width {
        return Ok(turned);
    }
    Tensor::cat(&[&turned, &x.narrow(D::Minus1, rotation.rotated, width - rotation.rotated)?], D::Minus1)
}

/// Every tensor of the architecture is there, in the shape that the metadata implies.
fn check_tensors(architecture: &Architecture, checks: &Checks<'_>) -> std::result::Result<(), EngineError> {
    let Architecture { width, hidden, head_width, vocabulary, .. } = *architecture;
    let (queries, kv) = (architecture.query_width(), architecture.kv_width());
    let matrix = |name: &str, outputs: usize, inputs: usize| {
        checks.optional_tensor(&format!("{name}.bias"), &[outputs as u64])?;
        checks.tensor(&format!("{name}.weight"), &[outputs as u64, inputs as u64])
    };
    checks.tensor("token_embd.weight", &[vocabulary as u64, width as u64])?;
    checks.tensor("output_norm.weight", &[width as u64])?;
    checks.optional_tensor("output.weight", &[vocabulary as u64, width as u64])?;
    checks.optional_tensor("rope_freqs.weight", &[architecture.rotations[0].rotated as u64 / 2])?;
    for layer in 0..architecture.layers.len() {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let norm = |part: &str, length: usize| checks.tensor(&name(part), &[length as u64]);
        for part in ["attn_norm.weight", "ffn_norm.weight"] {
            norm(part, width)?;
        }
        if architecture.head_norms {
            norm("attn_q_norm.weight", head_width)?;
            norm("attn_k_norm.weight", head_width)?;
        }
        if architecture.post_norms {
            norm("post_attention_norm.weight", width)?;
            norm("post_ffw_norm.weight", width)?;
        }
        if architecture.fused {
            matrix(&name("attn_qkv"), queries + 2 * kv, width)?;
        } else {
            matrix(&name("attn_q"), queries, width)?;
            matrix(&name("attn_k"), kv, width)?;
            matrix(&name("attn_v"), kv, width)?;
            checks.tensor(&name("ffn_gate.weight"), &[hidden as u64, width as u64])?;
        }
        let up = if architecture.fused { 2 * hidden } else { hidden };
        checks.tensor(&name("ffn_up.weight"), &[up as u64, width as u64])?;
        matrix(&name("attn_output"), width, queries)?;
        matrix(&name("ffn_down"), width, hidden)?;
    }
    Ok(())
}

/// Reads tensors that were checked.
struct Reader {
    content: Content,
    file: std::fs::File,
}

impl Reader {
    fn model(&mut self, architecture: Architecture, tied: bool) -> Result<Model> {
        let divisors =
            self.optional("rope_freqs.weight")?.map(|tensor| tensor.to_vec1::<f32>()).transpose()?;
        let frequencies =
            architecture.rotations.iter().map(|one| frequencies(one, divisors.as_deref())).collect();
        let layers = (0..architecture.layers.len()).map(|index| self.layer(&architecture, index));
        Ok(Model {
            layers: layers.collect::<Result<_>>()?,
            embedding: self.values("token_embd.weight")?,
            norm: self.values("output_norm.weight")?,
            head: self.matrix(if tied { "token_embd.weight" } else { "output.weight" })?,
            frequencies,
            architecture,
        })
    }

    fn layer(&mut self, architecture: &Architecture, index: usize) -> Result<Layer> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (projections, feed): (&[&str], &[&str]) = if architecture.fused {
            (&["attn_qkv"], &["ffn_up.weight"])
        } else {
            (&["attn_q", "attn_k", "attn_v"], &["ffn_gate.weight", "ffn_up.weight"])
        };
        Ok(Layer {
            attention_norm: self.values(&name("attn_norm.weight"))?,
            projections: projections.iter().map(|part| self.linear(&name(part))).collect::<Result<_>>()?,
            query_norm: self.optional(&name("attn_q_norm.weight"))?,
            key_norm: self.optional(&name("attn_k_norm.weight"))?,
            output: self.linear(&name("attn_output"))?,
            attention_post_norm: self.optional(&name("post_attention_norm.weight"))?,
            feed_norm: self.values(&name("ffn_norm.weight"))?,
            feed: feed.iter().map(|part| self.matrix(&name(part))).collect::<Result<_>>()?,
            down: self.linear(&name("ffn_down"))?,
            feed_post_norm: self.optional(&name("post_ffw_norm.weight"))?,
        })
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        let bias = self.optional(&format!("{name}.bias"))?;
        Ok(Linear { weight: self.matrix(&format!("{name}.weight"))?, bias })
    }

    fn matrix(&mut self, name: &str) -> Result<QMatMul> {
        QMatMul::from_qtensor(self.content.tensor(&mut self.file, name, &Device::Cpu)?)
    }

    fn values(&mut self, name: &str) -> Result<Tensor> {
        self.content.tensor(&mut self.file, name, &Device::Cpu)?.dequantize(&Device::Cpu)
    }

    fn optional(&mut self, name: &str) -> Result<Option<Tensor>> {
        let there = self.content.tensor_infos.contains_key(name);
        there.then(|| self.values(name)).transpose()
    }
}

/// The angle per position of each pair.
fn frequencies(rotation: &Rotation, divisors: Option<&[f32]>) -> Vec<f64> {
    let frequency = |pair: usize| {
        let exponent = -2.0 * pair as f64 / rotation.rotated as f64;
        let divisor = divisors.and_then(|divisors| divisors.get(pair)).map_or(1.0, |one| f64::from(*one));
        f64::from(rotation.base).powf(exponent) / (f64::from(rotation.factor) * divisor)
    };
    (0..rotation.rotated / 2).map(frequency).collect()
}
