//! What a classifier is, as JSON.

use std::path::Path;

use serde::Deserialize;

use crate::{EngineError, bounded};

/// The version of the format that is understood.
const SCHEMA: &str = "classifier/1";
const MAX_BYTES: u64 = 8 << 20;
const MAX_LAYERS: usize = 256;
const MAX_LABELS: usize = 65_536;
const MAX_LABEL_BYTES: usize = 256;

/// A network: its input, its layers in order, what is made of the last one's values. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// "classifier/1".
    pub schema: String,
    /// What goes in.
    pub input: Input,
    /// From input to output; at most 256.
    pub layers: Vec<Kind>,
    /// What the scores are.
    pub output: Output,
    /// What the scores stand for: one for each value of the last layer.
    pub labels: Vec<String>,
}

/// The input of a network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// \[features\], \[channels, length\] or \[channels, height, width\].
    pub shape: Vec<usize>,
    /// What is subtracted from each value, one for each of the first dimension.
    #[serde(default)]
    pub mean: Option<Vec<f32>>,
    /// By what each is divided then, likewise; above 0.
    #[serde(default)]
    pub std: Option<Vec<f32>>,
}

/// What the scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The last layer's values.
    None,
    /// Shares that sum up to 1.
    Softmax,
    /// Each from 0 to 1.
    Sigmoid,
}

/// A layer. Those with a `name` have the tensors `name.weight` and, unless `bias` is false, `name.bias`, in PyTorch's
/// shapes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Token ids to vectors: \[length\] to \[width, length\]. Weight: \[rows, width\]; no bias. Only as the first layer.
    Embedding {
        /// Prefix of its tensor.
        name: String,
        /// Number of token ids.
        rows: usize,
        /// Values of a vector.
        width: usize,
    },
    /// \[inputs\] to \[outputs\]. Weight: \[outputs, inputs\].
    Linear {
        /// Prefix of its tensors.
        name: String,
        /// Values that come out.
        outputs: usize,
        /// Whether it has a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// \[channels, length\] to \[outputs, length'\]. Weight: \[outputs, channels, kernel\].
    Conv1d {
        /// Prefix of its tensors.
        name: String,
        /// Channels that come out.
        outputs: usize,
        /// Positions that one value is made of.
        kernel: usize,
        /// Positions from one value to the next.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros at each end.
        #[serde(default)]
        padding: usize,
        /// Whether it has a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// \[channels, height, width\] to \[outputs, height', width'\]. Weight: \[outputs, channels, kernel, kernel\].
    Conv2d {
        /// Prefix of its tensors.
        name: String,
        /// Channels that come out.
        outputs: usize,
        /// Side of the square that one value is made of.
        kernel: usize,
        /// From one square to the next, in both directions.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros at each edge.
        #[serde(default)]
        padding: usize,
        /// Whether it has a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// The largest value of each piece of a channel.
    MaxPool {
        /// Length of a piece, or side of a square.
        kernel: usize,
        /// From one piece to the next; as long as a piece unless given.
        #[serde(default)]
        stride: Option<usize>,
    },
    /// The mean of each piece of a channel.
    AvgPool {
        /// Length of a piece, or side of a square.
        kernel: usize,
        /// From one piece to the next; as long as a piece unless given.
        #[serde(default)]
        stride: Option<usize>,
    },
    /// To a vector, rows first.
    Flatten {},
    /// max(x, 0).
    Relu {},
    /// x · Φ(x), exactly (not by tanh).
    Gelu {},
    /// Hyperbolic tangent.
    Tanh {},
    /// 1 / (1 + e^-x).
    Sigmoid {},
    /// A vector to mean 0 and variance 1, then factors and terms. Weight and bias: \[inputs\].
    LayerNorm {
        /// Prefix of its tensors.
        name: String,
        /// Added to the variance.
        #[serde(default = "norm_epsilon")]
        epsilon: f32,
    },
    /// Each channel by its `running_mean` and `running_var`, then factors and terms. All four: \[channels\].
    BatchNorm {
        /// Prefix of its tensors.
        name: String,
        /// Added to the variance.
        #[serde(default = "norm_epsilon")]
        epsilon: f32,
    },
}

impl Description {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, EngineError> {
        let description: Self = bounded::read_json(path, MAX_BYTES)?;
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.schema != SCHEMA {
            return Err(EngineError::Unsupported {
                what: "schema".to_owned(),
                found: format!("{:?}", self.schema),
                supported: format!("{SCHEMA:?}"),
            });
        }
        let wrong =
            |what: &str, detail: String| Err(EngineError::Inconsistent { what: what.to_owned(), detail });
        if !(1..=MAX_LAYERS).contains(&self.layers.len()) {
            return wrong(
                "layers",
                format!("there are {}; from 1 to {MAX_LAYERS} are accepted", self.layers.len()),
            );
        }
        if !(1..=MAX_LABELS).contains(&self.labels.len()) {
            return wrong(
                "labels",
                format!("there are {}; from 1 to {MAX_LABELS} are accepted", self.labels.len()),
            );
        }
        let mut seen = std::collections::HashSet::new();
        for label in &self.labels {
            if !(1..=MAX_LABEL_BYTES).contains(&label.len()) {
                return wrong(
                    "labels",
                    format!("one has {} bytes; from 1 to {MAX_LABEL_BYTES} are accepted", label.len()),
                );
            }
            if !seen.insert(label) {
                return wrong("labels", format!("{label:?} appears twice"));
            }
        }
        Ok(())
    }
}

impl Kind {
    /// "linear" and so on, with the name of those that have one.
    pub(super) fn label(&self) -> String {
        let named = |kind: &str, name: &str| format!("{kind} {name:?}");
        match self {
            Self::Embedding { name, .. } => named("embedding", name),
            Self::Linear { name, .. } => named("linear", name),
            Self::Conv1d { name, .. } => named("conv1d", name),
            Self::Conv2d { name, .. } => named("conv2d", name),
            Self::LayerNorm { name, .. } => named("layer_norm", name),
            Self::BatchNorm { name, .. } => named("batch_norm", name),
            Self::MaxPool { .. } => "max_pool".to_owned(),
            Self::AvgPool { .. } => "avg_pool".to_owned(),
            Self::Flatten {} => "flatten".to_owned(),
            Self::Relu {} => "relu".to_owned(),
            Self::Gelu {} => "gelu".to_owned(),
            Self::Tanh {} => "tanh".to_owned(),
            Self::Sigmoid {} => "sigmoid".to_owned(),
        }
    }
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn norm_epsilon() -> f32 {
    1e-5
}
