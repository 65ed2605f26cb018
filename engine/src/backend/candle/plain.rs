//! Phi-2 and GLM-4 once more, as plainly as possible and in f64: what candle's models should compute.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result};

type Row = Vec<f64>;

const HEAD_WIDTH: usize = 16;
const ROTATED: usize = 8;
const EPSILON: f64 = 1e-5;

/// The tensors of a small model by name, as rows.
pub(super) struct Plain {
    phi: bool,
    tensors: HashMap<String, Vec<Row>>,
}

impl Plain {
    pub(super) fn read(family: &str, path: &Path) -> Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let content = Content::read(&mut file)?;
        let mut tensors = HashMap::new();
        for name in content.tensor_infos.keys() {
            let tensor = content.tensor(&mut file, name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
            let columns = tensor.dims().last().copied().unwrap_or(1);
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            let rows = values.chunks(columns).map(|row| row.iter().copied().map(f64::from).collect());
            tensors.insert(name.clone(), rows.collect());
        }
        Ok(Self { phi: family == "phi2", tensors })
    }

    /// Logits after the last token of a prompt.
    pub(super) fn logits(&self, prompt: &[u32]) -> Vec<f32> {
        let embedding = &self.tensors["token_embd.weight"];
        let mut stream: Vec<Row> = prompt.iter().map(|token| embedding[*token as usize].clone()).collect();
        for layer in 0.. {
            let name = |part: &str| format!("blk.{layer}.{part}");
            if !self.tensors.contains_key(&name("attn_norm.weight")) {
                break;
            }
            let inputs: Vec<Row> = stream.iter().map(|x| self.norm(x, &name("attn_norm"))).collect();
            let attended = self.attention(&name, &inputs);
            for ((x, input), mixed) in stream.iter_mut().zip(&inputs).zip(attended) {
                let mixed = self.linear(&mixed, &name("attn_output"));
                if self.phi {
                    add(x, &mixed);
                    let up = self.linear(input, &name("ffn_up")).into_iter().map(gelu).collect::<Row>();
                    add(x, &self.linear(&up, &name("ffn_down")));
                } else {
                    add(x, &self.norm(&mixed, &name("post_attention_norm")));
                    let both = self.linear(&self.norm(x, &name("ffn_norm")), &name("ffn_up"));
                    let (gate, up) = both.split_at(both.len() / 2);
                    let fed: Row =
                        gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
                    let down = self.linear(&fed, &name("ffn_down"));
                    add(x, &self.norm(&down, &name("post_ffw_norm")));
                }
            }
        }
        let last = self.norm(&stream[stream.len() - 1], "output_norm");
        self.linear(&last, "output").into_iter().map(|logit| logit as f32).collect()
    }

    fn attention(&self, name: &dyn Fn(&str) -> String, inputs: &[Row]) -> Vec<Row> {
        let split = |x: &Row| -> [Row; 3] {
            if self.phi {
                let all = self.linear(x, &name("attn_qkv"));
                let third = all.len() / 3;
                [0, 1, 2].map(|part| all[part * third..][..third].to_vec())
            } else {
                ["attn_q", "attn_k", "attn_v"].map(|part| self.linear(x, &name(part)))
            }
        };
        let mut rows: Vec<[Row; 3]> = inputs.iter().map(split).collect();
        for (position, [queries, keys, _]) in rows.iter_mut().enumerate() {
            for head in queries.chunks_mut(HEAD_WIDTH).chain(keys.chunks_mut(HEAD_WIDTH)) {
                self.rotate(head, position);
            }
        }
        let group = rows[0][0].len() / rows[0][1].len();
        let mix = |position: usize| -> Row {
            let heads = rows[position][0].chunks(HEAD_WIDTH).enumerate();
            let mixed = heads.flat_map(|(head, query)| {
                let own = |row: &Row| row[head / group * HEAD_WIDTH..][..HEAD_WIDTH].to_vec();
                let score = |row: &[Row; 3]| (dot(query, &own(&row[1])) / (HEAD_WIDTH as f64).sqrt()).exp();
                let scores: Row = rows[..=position].iter().map(score).collect();
                let mut sum = vec![0.0; HEAD_WIDTH];
                for (row, score) in rows.iter().zip(&scores) {
                    let share = score / scores.iter().sum::<f64>();
                    sum.iter_mut().zip(own(&row[2])).for_each(|(sum, value)| *sum += share * value);
                }
                sum
            });
            mixed.collect()
        };
        (0..rows.len()).map(mix).collect()
    }

    /// Phi-2 pairs the halves of what is rotated, GLM-4 neighbours.
    fn rotate(&self, head: &mut [f64], position: usize) {
        for pair in 0..ROTATED / 2 {
            let angle = position as f64 / 10_000_f64.powf(2.0 * pair as f64 / ROTATED as f64);
            let (a, b) = if self.phi { (pair, pair + ROTATED / 2) } else { (2 * pair, 2 * pair + 1) };
            let (x, y) = (head[a], head[b]);
            (head[a], head[b]) = (x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos());
        }
    }

    fn linear(&self, x: &[f64], name: &str) -> Row {
        let mut y: Row = self.tensors[&format!("{name}.weight")].iter().map(|row| dot(row, x)).collect();
        if let Some(bias) = self.tensors.get(&format!("{name}.bias")) {
            add(&mut y, &bias[0]);
        }
        y
    }

    /// Phi-2 takes the mean away, GLM-4 does not.
    fn norm(&self, x: &[f64], name: &str) -> Row {
        let count = x.len() as f64;
        let mean = if self.phi { x.iter().sum::<f64>() / count } else { 0.0 };
        let deviation = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count + EPSILON).sqrt();
        let factors = &self.tensors[&format!("{name}.weight")][0];
        let mut y: Row = x.iter().zip(factors).map(|(x, factor)| (x - mean) / deviation * factor).collect();
        if let Some(bias) = self.tensors.get(&format!("{name}.bias")) {
            add(&mut y, &bias[0]);
        }
        y
    }
}

fn gelu(x: f64) -> f64 {
    x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
