//! What layers compute: every sum in one fixed order, every operation IEEE's.

use super::description::Output;

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Relu,
    Gelu,
    Tanh,
    Sigmoid,
}

/// A square piece that moves over planes of `height` × `width`; a signal is a plane of height 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Rows and columns of a piece.
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    /// Zeros above, below, left and right.
    pub(super) padding: [usize; 2],
    /// Rows and columns that come out.
    pub(super) out: [usize; 2],
}

/// A layer, ready to compute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layer {
    /// Rows × width.
    Embedding {
        table: Vec<f32>,
        width: usize,
    },
    /// Inputs × outputs: for each input what it adds to all outputs.
    Linear {
        columns: Vec<f32>,
        bias: Vec<f32>,
    },
    /// Outputs × channels × kernel.
    Convolution {
        weights: Vec<f32>,
        bias: Vec<f32>,
        pieces: Pieces,
    },
    MaxPool(Pieces),
    AvgPool(Pieces),
    /// For vectors.
    Normalise {
        factors: Vec<f32>,
        terms: Vec<f32>,
        epsilon: f32,
    },
    /// For each channel, and how many values it has.
    Scale {
        factors: Vec<f32>,
        terms: Vec<f32>,
        values: usize,
    },
    Function(Function),
}

impl Layer {
    /// The values after the layer, from those before it.
    pub(super) fn run(&self, mut x: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Embedding { table, width } => embed(&x, table, *width),
            Self::Linear { columns, bias } => {
                let mut out = bias.clone();
                for (x, column) in x.iter().zip(columns.chunks_exact(bias.len())) {
                    out.iter_mut().zip(column).for_each(|(out, weight)| *out += x * weight);
                }
                out
            }
            Self::Convolution { weights, bias, pieces } => convolve(&x, weights, bias, pieces),
            Self::MaxPool(pieces) => pieces.reduce(&x, f32::NEG_INFINITY, larger, |most| most),
            Self::AvgPool(pieces) => {
                let count = (pieces.kernel[0] * pieces.kernel[1]) as f32;
                pieces.reduce(&x, 0.0, |sum, value| sum + value, |sum| sum / count)
            }
            Self::Normalise { factors, terms, epsilon } => normalise(&x, factors, terms, *epsilon),
            Self::Scale { factors, terms, values } => {
                let channels = x.chunks_exact_mut(*values).zip(factors.iter().zip(terms));
                channels.for_each(|(channel, (factor, term))| {
                    channel.iter_mut().for_each(|value| *value = *value * factor + term);
                });
                x
            }
            Self::Function(function) => {
                x.iter_mut().for_each(|value| *value = function.of(*value));
                x
            }
        }
    }
}

impl Function {
    fn of(self, x: f32) -> f32 {
        let wide = f64::from(x);
        match self {
            // What is no number stays none, and zero has one sign.
            Self::Relu if x <= 0.0 => 0.0,
            Self::Relu => x,
            Self::Gelu => (0.5 * wide * (1.0 + libm::erf(wide * std::f64::consts::FRAC_1_SQRT_2))) as f32,
            Self::Tanh => libm::tanh(wide) as f32,
            Self::Sigmoid => (1.0 / (1.0 + libm::exp(-wide))) as f32,
        }
    }
}

impl Output {
    /// The scores, from the last layer's values.
    pub(super) fn of(self, mut x: Vec<f32>) -> Vec<f32> {
        match self {
            Self::None => x,
            Self::Sigmoid => {
                x.iter_mut().for_each(|value| *value = Function::Sigmoid.of(*value));
                x
            }
            Self::Softmax => {
                let most = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let parts: Vec<f64> = x.iter().map(|value| libm::exp(f64::from(*value) - most)).collect();
                let sum: f64 = parts.iter().sum();
                parts.iter().map(|part| (part / sum) as f32).collect()
            }
        }
    }
}

impl Pieces {
    /// Values of one channel that come out.
    pub(super) fn values(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Folds each piece, rows first; there is no padding.
    fn reduce(
        &self,
        x: &[f32],
        start: f32,
        join: impl Fn(f32, f32) -> f32,
        finish: impl Fn(f32) -> f32,
    ) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.channels * self.values());
        for plane in x.chunks_exact(self.height * self.width) {
            for row in 0..self.out[0] {
                for column in 0..self.out[1] {
                    let (top, left) = (row * self.stride, column * self.stride);
                    let rows = (top..top + self.kernel[0]).map(|y| &plane[y * self.width..][..self.width]);
                    let folded =
                        rows.flat_map(|row| &row[left..left + self.kernel[1]]).copied().fold(start, &join);
                    out.push(finish(folded));
                }
            }
        }
        out
    }
}

/// The larger one: the first of equals, which zeros of both signs are; what is no number wins.
fn larger(most: f32, value: f32) -> f32 {
    if value > most || value.is_nan() { value } else { most }
}

fn embed(ids: &[f32], table: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; width * ids.len()];
    for (place, id) in ids.iter().enumerate() {
        // The caller has checked that the id is one.
        for (channel, value) in table[*id as usize * width..][..width].iter().enumerate() {
            out[channel * ids.len() + place] = *value;
        }
    }
    out
}

/// Adds, for each weight in order, what it contributes to all places of its output channel.
fn convolve(x: &[f32], weights: &[f32], bias: &[f32], pieces: &Pieces) -> Vec<f32> {
    let Pieces {
        height, width, kernel: [rows, columns], padding, stride, out: [out_rows, out_columns], ..
    } = *pieces;
    let mut out = Vec::with_capacity(bias.len() * pieces.values());
    let per_output = pieces.channels * rows * columns;
    for (weights, bias) in weights.chunks_exact(per_output).zip(bias) {
        let start = out.len();
        out.resize(start + pieces.values(), *bias);
        let out = &mut out[start..];
        for (index, weight) in weights.iter().enumerate() {
            let (channel, dy, dx) = (index / (rows * columns), index / columns % rows, index % columns);
            let plane = &x[channel * height * width..][..height * width];
            for (row, out) in out.chunks_exact_mut(out_columns).enumerate().take(out_rows) {
                let y = (row * stride + dy).wrapping_sub(padding[0]);
                if y >= height {
                    continue;
                }
                let line = &plane[y * width..][..width];
                for (column, out) in out.iter_mut().enumerate() {
                    if let Some(value) = line.get((column * stride + dx).wrapping_sub(padding[1])) {
                        *out += weight * value;
                    }
                }
            }
        }
    }
    out
}

fn normalise(x: &[f32], factors: &[f32], terms: &[f32], epsilon: f32) -> Vec<f32> {
    let count = x.len() as f64;
    let mean = x.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let squares = x.iter().map(|value| (f64::from(*value) - mean) * (f64::from(*value) - mean));
    let deviation = (squares.sum::<f64>() / count + f64::from(epsilon)).sqrt();
    let one = |(value, (factor, term)): (&f32, (&f32, &f32))| {
        ((f64::from(*value) - mean) / deviation * f64::from(*factor) + f64::from(*term)) as f32
    };
    x.iter().zip(factors.iter().zip(terms)).map(one).collect()
}
