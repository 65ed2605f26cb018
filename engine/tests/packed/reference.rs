//! Logits against candle's implementations of the same architectures.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::{quantized_llama, quantized_phi3, quantized_qwen2, quantized_qwen3};

use crate::naive::Naive;
use crate::requantise::requantise;
use crate::support::*;
use crate::tiny::Tiny;

/// candle's logits after a prompt, for the architectures that it computes as their authors do.
fn candle_logits(family: &str, path: &Path, prompt: &[u32]) -> Result<Vec<f32>> {
    let (mut file, device) = (File::open(path)?, Device::Cpu);
    let content = Content::read(&mut file)?;
    let input = Tensor::new(prompt, &device)?.unsqueeze(0)?;
    let logits = match family {
        "llama" => quantized_llama::ModelWeights::from_gguf(content, &mut file, &device)?.forward(&input, 0),
        "qwen2" => quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &device)?.forward(&input, 0),
        "qwen3" => quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &device)?.forward(&input, 0),
        "phi3" => {
            quantized_phi3::ModelWeights::from_gguf(false, content, &mut file, &device)?.forward(&input, 0)
        }
        other => unreachable!("no reference for {other}"),
    };
    logits?.flatten_all()?.to_vec1()
}

#[test]
fn every_architecture_computes_what_it_should() {
    let windowed = Tiny { window: Some(5), ..Tiny::new("llama") };
    for tiny in Tiny::all().chain([windowed]) {
        let (_folder, path) = tiny.write();
        let naive = Naive::read(&tiny, &path).expect("a sound file");
        let mut model = load(&path, OPTIONS);
        for count in [1, 2, 15, 16, 17, 40] {
            let prompt = tokens(3, count, tiny.vocabulary);
            let error = relative_error(&logits(&mut model, &prompt, 256), &naive.logits(&prompt));
            assert!(error < 1e-5, "{tiny:?}, {count} tokens: relative error {error}");
        }
    }
}

#[test]
fn every_architecture_computes_what_candle_does() {
    // candle's quantised Gemma 3 uses another activation and a window of one more than the original.
    for tiny in Tiny::all().filter(|tiny| tiny.family != "gemma3") {
        let (_folder, path) = tiny.write();
        let mut model = load(&path, OPTIONS);
        for count in [1, 17, 40] {
            let prompt = tokens(3, count, tiny.vocabulary);
            let expected = candle_logits(tiny.family, &path, &prompt).expect("candle computes it");
            let error = relative_error(&logits(&mut model, &prompt, 256), &expected);
            assert!(error < 1e-4, "{}, {count} tokens: relative error {error}", tiny.family);
        }
    }
}

/// Activations of eight bits cost this model some percent of its logits, in candle as here: its first tokens
/// have values thousands of times larger than the rest. So both are measured against unrounded activations.
#[test]
fn real_weights_lose_about_as_much_as_in_candle() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let (eight, exact) = (folder.path().join("q8_0.gguf"), folder.path().join("f32.gguf"));
    // In a format that candle is fast in.
    requantise(&real_model(), GgmlDType::Q8_0, &eight).expect("candle converts it");
    requantise(&eight, GgmlDType::F32, &exact).expect("candle converts it");
    let (mut ours, mut ours_exact) = (load(&eight, OPTIONS), load(&exact, OPTIONS));
    let (mut our_errors, mut candle_errors) = (0.0, 0.0);
    let prompts: Vec<_> = prompts().into_iter().step_by(4).collect();
    for prompt in &prompts {
        let reference = |path| candle_logits("llama", path, prompt).expect("candle computes it");
        let (expected, candle) = (reference(&exact), reference(&eight));
        let error = relative_error(&logits(&mut ours_exact, prompt, 256), &expected);
        assert!(error < 1e-4, "{} tokens in f32: relative error {error}", prompt.len());
        let found = logits(&mut ours, prompt, 256);
        assert_eq!(largest(&found), largest(&candle), "{} tokens", prompt.len());
        our_errors += relative_error(&found, &expected);
        candle_errors += relative_error(&candle, &expected);
    }
    println!(
        "mean relative errors: {:.4}, candle's {:.4}",
        our_errors / prompts.len() as f64,
        candle_errors / prompts.len() as f64
    );
    // Single prompts differ by a factor of two and more, either way.
    assert!(our_errors < 1.5 * candle_errors, "{our_errors} instead of {candle_errors}");
}

#[test]
fn greedy_answers_begin_as_llama_cpps_do() {
    let mut model = load(&real_model(), OPTIONS);
    for (prompt, answer) in conversations() {
        let mut text = prompt.clone();
        for expected in answer.iter().take(8) {
            let next = largest(&logits(&mut model, &text, 256)) as u32;
            assert_eq!(next, *expected, "after {} tokens", text.len());
            text.push(next);
        }
    }
}
