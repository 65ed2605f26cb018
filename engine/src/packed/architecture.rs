//! What a model of the llama family computes, as data.
//!
//! Everything that differs between the families is a field here: the forward pass has no names of families
//! in it. Sizes come from the file, checked against each other before anything is allocated.

use super::rotation::{Pairs, Rotation};
use crate::gguf::Gguf;
use crate::{EngineError, Value};

/// Most layers and the widest model that is accepted: twice the largest llama.
const MAX_LAYERS: usize = 256;
const MAX_WIDTH: usize = 1 << 16;

/// The function between the gate and the product with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x / (1 + e^-x)
    Silu,
    /// The approximation by tanh.
    Gelu,
}

/// Which layers attend to a window only, where the file gives one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Windows {
    /// All.
    All,
    /// All but every sixth; those in the window have rotations of their own.
    FiveOfSix,
}

/// What a family does differently.
struct Family {
    name: &'static str,
    pairs: Pairs,
    activation: Activation,
    windows: Windows,
    /// Embeddings are multiplied by the root of the width.
    scaled_embedding: bool,
    /// Queries and keys are normalised per head.
    head_norms: bool,
    /// The outputs of attention and feed-forward are normalised before they are added.
    post_norms: bool,
    /// Queries, keys and values are one tensor; gate and up are one tensor.
    fused: bool,
}

/// What most families have in common.
const LLAMA: Family = Family {
    name: "llama",
    pairs: Pairs::Adjacent,
    activation: Activation::Silu,
    windows: Windows::All,
    scaled_embedding: false,
    head_norms: false,
    post_norms: false,
    fused: false,
};

const FAMILIES: [Family; 5] = [
    LLAMA,
    Family { name: "qwen2", pairs: Pairs::Halves, ..LLAMA },
    Family { name: "qwen3", pairs: Pairs::Halves, head_norms: true, ..LLAMA },
    Family {
        name: "gemma3",
        pairs: Pairs::Halves,
        activation: Activation::Gelu,
        windows: Windows::FiveOfSix,
        scaled_embedding: true,
        head_norms: true,
        post_norms: true,
        ..LLAMA
    },
    Family { name: "phi3", pairs: Pairs::Halves, fused: true, ..LLAMA },
];

/// What is particular to one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerKind {
    /// How many positions are attended to, the own one included; `None` for all.
    pub(crate) window: Option<usize>,
    /// Index into `Architecture::rotations`.
    pub(crate) rotation: usize,
}

/// A model's sizes and functions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Architecture {
    /// `general.architecture`
    pub(crate) family: &'static str,
    /// Values in the residual stream of a token.
    pub(crate) width: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub(crate) kv_heads: usize,
    /// Values in a head.
    pub(crate) head_width: usize,
    /// Values between gate and down.
    pub(crate) hidden: usize,
    /// Token ids.
    pub(crate) vocabulary: usize,
    /// Longest sequence that the model was made for, in tokens.
    pub(crate) context: usize,
    /// Added to the mean square.
    pub(crate) epsilon: f32,
    /// The layers.
    pub(crate) layers: Vec<LayerKind>,
    /// Rotations of queries and keys by position.
    pub(crate) rotations: Vec<Rotation>,
    /// Function of the feed-forward part.
    pub(crate) activation: Activation,
    /// Factor of embeddings.
    pub(crate) embedding_scale: f32,
    /// Factor of attention scores.
    pub(crate) attention_scale: f32,
    /// Bound of attention scores.
    pub(crate) attention_cap: Option<f32>,
    /// Bound of logits.
    pub(crate) logit_cap: Option<f32>,
    /// Queries and keys are normalised per head.
    pub(crate) head_norms: bool,
    /// The outputs of attention and feed-forward are normalised before they are added.
    pub(crate) post_norms: bool,
    /// Queries, keys and values are one tensor; gate and up are one tensor.
    pub(crate) fused: bool,
}

impl Architecture {
    /// Reads a file's metadata; the vocabulary is the height of its embeddings.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, EngineError> {
        let name = gguf.architecture()?;
        let family = FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
            let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
            unsupported("general.architecture", format!("{name:?}"), &names.join(", "))
        })?;
        let keys = Keys { gguf, family: family.name };
        if keys.optional("expert_count", usize::MAX)?.unwrap_or(0) > 1 {
            return Err(unsupported("expert_count", "above 1".to_owned(), "dense models"));
        }
        let width = keys.count("embedding_length", MAX_WIDTH)?;
        let heads = keys.count("attention.head_count", width)?;
        let kv_heads = keys.optional("attention.head_count_kv", heads)?.unwrap_or(heads);
        let head_width = keys.head_width(width, heads)?;
        let layers = keys.count("block_count", MAX_LAYERS)?;
        let architecture = Self {
            family: family.name,
            width,
            heads,
            kv_heads,
            head_width,
            hidden: keys.count("feed_forward_length", 16 * MAX_WIDTH)?,
            vocabulary: vocabulary(gguf)?,
            context: keys.count("context_length", u32::MAX as usize)?,
            epsilon: keys.positive("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
                inconsistent(&keys.key("attention.layer_norm_rms_epsilon"), "it is missing".to_owned())
            })?,
            layers: keys.layers(family, layers)?,
            rotations: keys.rotations(family, head_width)?,
            activation: family.activation,
            embedding_scale: if family.scaled_embedding { (width as f32).sqrt() } else { 1.0 },
            attention_scale: attention_scale(family, layers, width / heads, head_width),
            attention_cap: keys.positive("attn_logit_softcapping")?,
            logit_cap: keys.positive("final_logit_softcapping")?,
            head_norms: family.head_norms,
            post_norms: family.post_norms,
            fused: family.fused,
        };
        architecture.check()?;
        Ok(architecture)
    }

    /// Values of all query heads.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Values of all key heads, and of all value heads.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Query heads that share a key head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn check(&self) -> Result<(), EngineError> {
        let Self { heads, kv_heads, head_width, .. } = *self;
        if !heads.is_multiple_of(kv_heads) {
            let detail = format!("{heads} heads cannot share {kv_heads} KV heads equally");
            return Err(inconsistent("attention.head_count_kv", detail));
        }
        let multiples = [
            ("embedding_length", self.width, 32),
            ("feed_forward_length", self.hidden, 32),
            ("attention.key_length", head_width, 16),
            ("the width of all heads", self.query_width(), 32),
        ];
        for (what, found, unit) in multiples {
            if !found.is_multiple_of(unit) {
                return Err(unsupported(what, found.to_string(), &format!("multiples of {unit}")));
            }
        }
        Ok(())
    }
}

/// The metadata of a family.
struct Keys<'a> {
    gguf: &'a Gguf,
    family: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    fn count(&self, name: &str, limit: usize) -> Result<usize, EngineError> {
        let missing = || inconsistent(&self.key(name), "it is missing".to_owned());
        self.optional(name, limit)?.ok_or_else(missing)
    }

    fn optional(&self, name: &str, limit: usize) -> Result<Option<usize>, EngineError> {
        let key = self.key(name);
        let Some(value) = self.gguf.get(&key) else { return Ok(None) };
        let number = self.gguf.unsigned(&key).and_then(|number| usize::try_from(number).ok());
        match number {
            Some(number) if (1..=limit).contains(&number) => Ok(Some(number)),
            _ => Err(inconsistent(&key, format!("it is {}; it must be from 1 to {limit}", shown(value)))),
        }
    }

    fn positive(&self, name: &str) -> Result<Option<f32>, EngineError> {
        let key = self.key(name);
        let Some(value) = self.gguf.get(&key) else { return Ok(None) };
        match self.gguf.float(&key) {
            Some(number) if number > 0.0 && (number as f32).is_finite() => Ok(Some(number as f32)),
            _ => Err(inconsistent(&key, format!("it is {}; it must be a number above 0", shown(value)))),
        }
    }

    fn head_width(&self, width: usize, heads: usize) -> Result<usize, EngineError> {
        let (key, value) = ("attention.key_length", "attention.value_length");
        let found = (self.optional(key, MAX_WIDTH)?, self.optional(value, MAX_WIDTH)?);
        match found {
            (Some(key), Some(value)) if key != value => {
                Err(unsupported("attention.value_length", value.to_string(), "as long as keys"))
            }
            (Some(width), _) | (None, Some(width)) => Ok(width),
            (None, None) if width.is_multiple_of(heads) => Ok(width / heads),
            (None, None) => {
                let key = self.key("attention.head_count");
                Err(inconsistent(&key, format!("{heads} heads do not divide a width of {width}")))
            }
        }
    }

    fn layers(&self, family: &Family, count: usize) -> Result<Vec<LayerKind>, EngineError> {
        let window = self.optional("attention.sliding_window", usize::MAX)?;
        Ok((0..count)
            .map(|layer| match family.windows {
                Windows::FiveOfSix if layer % 6 != 5 => LayerKind { window, rotation: 1 },
                Windows::FiveOfSix => LayerKind { window: None, rotation: 0 },
                Windows::All => LayerKind { window, rotation: 0 },
            })
            .collect())
    }

    fn rotations(&self, family: &Family, head_width: usize) -> Result<Vec<Rotation>, EngineError> {
        let rotated = self.optional("rope.dimension_count", head_width)?.unwrap_or(head_width);
        if !rotated.is_multiple_of(2) {
            return Err(unsupported("rope.dimension_count", rotated.to_string(), "even numbers"));
        }
        let kind = self.gguf.string(&self.key("rope.scaling.type")).unwrap_or("none");
        let factor = match kind {
            "none" => 1.0,
            "linear" => self.positive("rope.scaling.factor")?.unwrap_or(1.0),
            other => {
                return Err(unsupported("rope.scaling.type", format!("{other:?}"), "\"none\", \"linear\""));
            }
        };
        let base = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let global = Rotation { pairs: family.pairs, rotated, base, factor };
        Ok(match family.windows {
            Windows::All => vec![global],
            Windows::FiveOfSix => {
                let (one, other) = ("rope.freq_base_swa", "rope.local_freq_base");
                let base = self.positive(one)?.or(self.positive(other)?).unwrap_or(10_000.0);
                vec![global, Rotation { base, factor: 1.0, ..global }]
            }
        })
    }
}

/// All scale by the width of a head, but the largest Gemma 3 (62 layers) by the model's width per head.
fn attention_scale(family: &Family, layers: usize, width_per_head: usize, head_width: usize) -> f32 {
    let largest_gemma = family.name == "gemma3" && layers == 62;
    1.0 / (if largest_gemma { width_per_head } else { head_width } as f32).sqrt()
}

fn vocabulary(gguf: &Gguf) -> Result<usize, EngineError> {
    let name = "token_embd.weight";
    let tensor = gguf.tensors().iter().find(|tensor| tensor.name == name);
    let tensor = tensor.ok_or_else(|| inconsistent(name, "the tensor is missing".to_owned()))?;
    match tensor.shape[..] {
        [rows, _] if rows <= u64::from(u32::MAX) => Ok(rows as usize),
        _ => Err(inconsistent(name, format!("its shape is {:?}; it must be a matrix", tensor.shape))),
    }
}

/// A value for an error message, without the contents of arrays.
fn shown(value: &Value) -> String {
    match value {
        Value::Strings(texts) => format!("an array of {} texts", texts.len()),
        Value::Integers(numbers) => format!("an array of {} numbers", numbers.len()),
        Value::Floats(numbers) => format!("an array of {} numbers", numbers.len()),
        other => format!("{other:?}"),
    }
}

fn unsupported(what: &str, found: String, supported: &str) -> EngineError {
    EngineError::Unsupported { what: what.to_owned(), found, supported: supported.to_owned() }
}

fn inconsistent(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}
