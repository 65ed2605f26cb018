//! The architectures once more, as plainly as possible and in f64: what the backend should compute.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;

use crate::peft::Peft;
use crate::tiny::Tiny;

type Matrix = Vec<Vec<f64>>;

/// A model's tensors by name, as rows.
pub struct Naive {
    tiny: Tiny,
    tensors: HashMap<String, Matrix>,
    /// Halves of heads are rotated together, as in the authors' models.
    halves: bool,
}

impl Naive {
    pub fn read(tiny: &Tiny, path: &Path) -> candle_core::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let content = Content::read(&mut file)?;
        let mut tensors = HashMap::new();
        for name in content.tensor_infos.keys() {
            let tensor = content.tensor(&mut file, name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
            let columns = *tensor.dims().last().expect("at least one dimension");
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            let rows = values.chunks(columns).map(|row| row.iter().map(|value| f64::from(*value)).collect());
            tensors.insert(name.clone(), rows.collect());
        }
        Ok(Self { tiny: tiny.clone(), tensors, halves: tiny.family != "llama" })
    }

    /// The same model with an adapter merged into its weights. Where the file has queries and keys in an order of its own
    /// for rotation, the authors' is restored first: their adapters are made for that.
    pub fn merged(mut self, adapter: &Peft) -> Self {
        let Tiny { family, layers, heads, kv_heads, .. } = self.tiny;
        let rank = adapter.rank as f64;
        let factor = adapter.alpha / if adapter.stabilised { rank.sqrt() } else { rank };
        for layer in 0..layers {
            if family == "llama" {
                for (part, heads) in [("attn_q", heads), ("attn_k", kv_heads)] {
                    let rows =
                        self.tensors.get_mut(&format!("blk.{layer}.{part}.weight")).expect("a projection");
                    let half = rows.len() / heads / 2;
                    let source = |row: usize| row / (2 * half) * 2 * half + row % half * 2 + row / half % 2;
                    *rows = (0..rows.len()).map(|row| rows[source(row)].clone()).collect();
                }
            }
            for (index, (module, _, inputs)) in adapter.modules.iter().enumerate() {
                let [a, b] = adapter.matrices(layer, index);
                let rows = self.tensors.get_mut(&format!("blk.{layer}.{}.weight", gguf_name(module)));
                for (row, b) in rows.expect("a module of the base").iter_mut().zip(b.chunks(adapter.rank)) {
                    for (input, weight) in row.iter_mut().enumerate() {
                        let column = a[input..].iter().step_by(*inputs);
                        *weight +=
                            factor * column.zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                    }
                }
            }
        }
        self.halves = true;
        self
    }

    /// Logits after the last token of a prompt.
    pub fn logits(&self, prompt: &[u32]) -> Vec<f32> {
        let gemma = self.tiny.family == "gemma3";
        let scale = if gemma { (self.tiny.width as f64).sqrt() } else { 1.0 };
        let embedding = &self.tensors["token_embd.weight"];
        let mut stream: Matrix = prompt
            .iter()
            .map(|token| embedding[*token as usize].iter().map(|value| value * scale).collect())
            .collect();
        for layer in 0..self.tiny.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let inputs: Matrix = stream.iter().map(|row| self.norm(row, &name("attn_norm"))).collect();
            let attended = self.attention(layer, &inputs);
            for (row, attended) in stream.iter_mut().zip(attended) {
                add(
                    row,
                    &self.post(self.product(&attended, &name("attn_output")), &name("post_attention_norm")),
                );
                let input = self.norm(row, &name("ffn_norm"));
                add(row, &self.post(self.feed(layer, &input), &name("post_ffw_norm")));
            }
        }
        let last = self.norm(stream.last().expect("a prompt"), "output_norm.weight");
        let head = if self.tiny.tied { "token_embd.weight" } else { "output.weight" };
        self.product(&last, head).into_iter().map(|value| value as f32).collect()
    }

    fn product(&self, x: &[f64], name: &str) -> Vec<f64> {
        self.tensors[name].iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter().zip(&self.tensors[name][0]).map(|(x, gain)| x / (mean + 1e-5).sqrt() * gain).collect()
    }

    fn post(&self, x: Vec<f64>, name: &str) -> Vec<f64> {
        if self.tensors.contains_key(name) { self.norm(&x, name) } else { x }
    }

    fn feed(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let up = self.product(x, &name("ffn_up"));
        let (gate, up) = match self.tiny.family {
            "phi3" => (up[..self.tiny.hidden].to_vec(), up[self.tiny.hidden..].to_vec()),
            _ => (self.product(x, &name("ffn_gate")), up),
        };
        let bend = |x: f64| match self.tiny.family {
            "gemma3" => {
                x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            _ => x / (1.0 + (-x).exp()),
        };
        let hidden: Vec<f64> = gate.into_iter().zip(up).map(|(gate, up)| bend(gate) * up).collect();
        self.product(&hidden, &name("ffn_down"))
    }

    /// All heads' values for each row.
    fn attention(&self, layer: usize, inputs: &Matrix) -> Matrix {
        let Tiny { heads, kv_heads, head_width, .. } = self.tiny;
        let projected: Vec<[Matrix; 3]> =
            inputs.iter().enumerate().map(|(position, row)| self.project(layer, row, position)).collect();
        let window =
            self.tiny.window.filter(|_| self.tiny.family != "gemma3" || layer % 6 != 5).unwrap_or(usize::MAX);
        let head = |row: usize, head: usize| -> Vec<f64> {
            let (query, kv) = (&projected[row][0][head], head * kv_heads / heads);
            let from = (row + 1).saturating_sub(window);
            let score = |position: usize| -> f64 {
                let key = &projected[position][1][kv];
                (dot(query, key) / (head_width as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = (from..=row).map(score).collect();
            let sum: f64 = weights.iter().sum();
            let value = |at: usize| {
                let values = (from..=row)
                    .zip(&weights)
                    .map(|(position, weight)| weight * projected[position][2][kv][at]);
                values.sum::<f64>() / sum
            };
            (0..head_width).map(value).collect()
        };
        (0..inputs.len()).map(|row| (0..heads).flat_map(|index| head(row, index)).collect()).collect()
    }

    /// Queries, keys and values of one row by heads, rotated.
    fn project(&self, layer: usize, x: &[f64], position: usize) -> [Matrix; 3] {
        let Tiny { heads, kv_heads, head_width, .. } = self.tiny;
        let all: Vec<f64> = if self.tiny.family == "phi3" {
            self.product(x, &format!("blk.{layer}.attn_qkv.weight"))
        } else {
            let part = |part: &str| {
                let mut values = self.product(x, &format!("blk.{layer}.{part}.weight"));
                if let Some(bias) = self.tensors.get(&format!("blk.{layer}.{part}.bias")) {
                    add(&mut values, &bias[0]);
                }
                values
            };
            [part("attn_q"), part("attn_k"), part("attn_v")].concat()
        };
        let mut rows: Matrix = all.chunks(head_width).map(<[f64]>::to_vec).collect();
        for (index, row) in rows[..heads + kv_heads].iter_mut().enumerate() {
            let part = if index < heads { "attn_q_norm" } else { "attn_k_norm" };
            *row = self.post(row.clone(), &format!("blk.{layer}.{part}.weight"));
            self.rotate(row, position);
        }
        let values = rows.split_off(heads + kv_heads);
        let keys = rows.split_off(heads);
        [rows, keys, values]
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        let half = head.len() / 2;
        for pair in 0..half {
            let (i, j) = if self.halves { (pair, pair + half) } else { (2 * pair, 2 * pair + 1) };
            let angle = position as f64 / 10_000_f64.powf(pair as f64 / half as f64);
            let (sine, cosine) = angle.sin_cos();
            (head[i], head[j]) = (head[i] * cosine - head[j] * sine, head[i] * sine + head[j] * cosine);
        }
    }
}

/// A module's name in the file.
fn gguf_name(module: &str) -> &'static str {
    match module {
        "q_proj" => "attn_q",
        "k_proj" => "attn_k",
        "v_proj" => "attn_v",
        "qkv_proj" => "attn_qkv",
        "o_proj" => "attn_output",
        "gate_proj" => "ffn_gate",
        "up_proj" | "gate_up_proj" => "ffn_up",
        "down_proj" => "ffn_down",
        other => unreachable!("no module {other}"),
    }
}

fn add(to: &mut [f64], more: &[f64]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
