//! Greedy continuations, and the likeliest tokens at each of their steps.
//!
//! With weights in f32 no activations are rounded, and all agrees with llama.cpp to the digits that the fixtures have.
//! With the files' own weights both engines round activations to eight bits, and lose about the same by it: the KL
//! divergence from the exact probabilities is as large here as in llama.cpp, and each takes another token than the
//! exact one about as often, where two are nearly as likely.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use dividend_engine::packed::Chunk;
use serde::Deserialize;
use tempfile::TempDir;

use crate::requantise::requantise;
use crate::support::*;

#[derive(Deserialize)]
struct Fixture {
    file: String,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
    tokens: Vec<u32>,
    /// llama.cpp's likeliest token at each step.
    answer: Vec<u32>,
    top: Vec<Vec<Top>>,
}

/// A token, ln p by llama.cpp, and ln p by llama.cpp without rounding of activations.
#[derive(Deserialize)]
struct Top(u32, f64, f64);

/// How far the model's probabilities are from the reference's, over all steps.
#[derive(Debug, Default)]
struct Distance {
    steps: usize,
    /// Σ KL(exact ‖ ours), of the top tokens and of all others together.
    ours: f64,
    /// Σ KL(exact ‖ llama.cpp)
    llamas: f64,
    /// Σ KL(llama.cpp ‖ ours)
    between: f64,
    /// Largest |Δ ln p| of a top token, between the model and the exact.
    widest: f64,
    /// Steps at which another token is likeliest than in llama.cpp, with its lead there over ours.
    other: Vec<(String, usize, f64)>,
    /// Steps at which llama.cpp's likeliest token is not the exact one.
    llamas_other: usize,
    /// Where ours is not, the largest lead of the exact one over ours by exact probabilities.
    behind_exact: f64,
}

/// KL(p ‖ q) of distributions given by logarithms of some of their probabilities; the rest counts as one.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let rest = |logs: &[f64]| (1.0 - logs.iter().map(|log| log.exp()).sum::<f64>()).max(1e-9);
    let known: f64 = p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum();
    known + rest(p) * (rest(p) / rest(q)).ln()
}

impl Distance {
    fn add(&mut self, prompt: &Prompt, step: usize, logits: &[f32]) {
        let top = &prompt.top[step];
        let sum = log_sum(logits);
        let ours: Vec<f64> = top.iter().map(|one| f64::from(logits[one.0 as usize]) - sum).collect();
        let llama: Vec<f64> = top.iter().map(|one| one.1).collect();
        let exact: Vec<f64> = top.iter().map(|one| one.2).collect();
        self.steps += 1;
        self.ours += divergence(&exact, &ours);
        self.llamas += divergence(&exact, &llama);
        self.between += divergence(&llama, &ours);
        self.widest = ours.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(self.widest, f64::max);
        self.llamas_other += usize::from(exact.iter().any(|other| *other > exact[0]));
        let next = largest(logits);
        let best = exact.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let behind = top.iter().find(|one| one.0 == next).map_or(f64::INFINITY, |one| best - one.2);
        self.behind_exact = self.behind_exact.max(behind);
        if next != prompt.answer[step] {
            let lead = top.iter().find(|one| one.0 == next).map_or(f64::INFINITY, |one| llama[0] - one.1);
            self.other.push((prompt.name.clone(), step, lead));
        }
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps as f64
    }

    /// Prompts with a step at which another token is likeliest.
    fn prompts(&self) -> usize {
        self.other.iter().map(|one| &one.0).collect::<BTreeSet<_>>().len()
    }

    fn lead(&self) -> f64 {
        self.other.iter().map(|one| one.2).fold(0.0, f64::max)
    }
}

/// Gives the model llama.cpp's answers token by token. Where each is the likeliest to the model too, they are
/// its own greedy answers.
fn measure(path: &Path, prompts: &[Prompt]) -> Distance {
    let longest = prompts.iter().map(|one| one.tokens.len() + one.answer.len()).max().expect("prompts");
    let mut model = load(path, prompts.len(), longest);
    let sequences: Vec<_> = prompts.iter().map(|_| model.open()).collect();
    let mut distance = Distance::default();
    for (prompt, sequence) in prompts.iter().zip(&sequences) {
        let chunk = Chunk { sequence: *sequence, tokens: &prompt.tokens, logits: true };
        let logits = model.step(&[chunk]).expect("room for all");
        distance.add(prompt, 0, logits.row(0));
    }
    let answers: Vec<&[u32]> = prompts.iter().map(|one| &one.answer[..one.answer.len() - 1]).collect();
    side_by_side(&mut model, &sequences, &answers, |index, at, logits| {
        distance.add(&prompts[index], at + 1, logits);
    });
    println!(
        "mean KL from the exact: {:.7}, llama.cpp's {:.7}, between the two {:.7}; widest {:.5}; other tokens at {} steps of {} prompts, up to {:.4} behind; llama.cpp's at {}",
        distance.mean(distance.ours),
        distance.mean(distance.llamas),
        distance.mean(distance.between),
        distance.widest,
        distance.other.len(),
        distance.prompts(),
        distance.lead(),
        distance.llamas_other,
    );
    distance
}

/// The weights as f32 numbers, where neither engine rounds activations: the same forward pass. Probabilities'
/// logarithms differ by up to `widest`, and tokens that are nearer to each other than that may change places.
fn check_exact(family: &str, widest: f64) {
    let Fixture { file, prompts } = fixture(&format!("{family}_greedy.json"));
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("exact.gguf");
    requantise(&fetched(&file), GgmlDType::F32, &path).expect("sound weights");
    let distance = measure(&path, &prompts);
    // The fixtures' four decimals alone are worth 0.0000006.
    assert!(distance.mean(distance.ours) < 2e-6, "{distance:?}");
    assert!(distance.widest < widest, "{distance:?}");
    assert!(distance.behind_exact < widest, "{distance:?}");
}

#[test]
fn smollm2_in_f32_answers_exactly_as_llama_cpp_does() {
    check_exact("smollm2", 0.0005);
}

/// llama.cpp looks GELU up in a table of half precision, which leaves it about three digits.
#[test]
fn gemma3_in_f32_answers_exactly_as_llama_cpp_does() {
    check_exact("gemma3", 0.02);
}

/// Measured: SmolLM2 has a divergence of 0.0021 from the exact, llama.cpp one of 0.0020; Gemma 3 0.0013 and 0.0027.
/// Another token is likeliest at 50 steps of 32 prompts, and at 43 of 26; llama.cpp's is not the exact one at 38 and
/// at 38. Such tokens are up to 0.54 behind, more than half of them less than 0.1.
fn check_rounded(family: &str) {
    let Fixture { file, prompts } = fixture(&format!("{family}_greedy.json"));
    let distance = measure(&fetched(&file), &prompts);
    assert!(distance.ours < 1.25 * distance.llamas, "{distance:?}");
    assert!(distance.mean(distance.ours) < 0.0025, "{distance:?}");
    assert!(distance.mean(distance.between) < 0.004, "{distance:?}");
    assert!(distance.other.len() <= 55 && distance.prompts() <= 35, "{distance:?}");
    assert!(distance.lead() < 0.6, "{distance:?}");
    let near = distance.other.iter().filter(|one| one.2 < 0.1).count();
    assert!(2 * near > distance.other.len(), "{distance:?}");
}

#[test]
fn smollm2_answers_as_llama_cpp_does() {
    check_rounded("smollm2");
}

#[test]
fn gemma3_answers_as_llama_cpp_does() {
    check_rounded("gemma3");
}
