//! Logits: against the packed kernels where there are some, and whole against in pieces.

use std::path::Path;

use super::Candle;
use super::plain::Plain;
use crate::backend::{Backend, Chunk};
use crate::gguf::Gguf;
use crate::packed::Scope;
use crate::packed::{KvType, Options, PackedModel};

#[path = "../../../tests/engine/others.rs"]
mod others;
#[path = "../../../tests/packed/tiny.rs"]
#[expect(dead_code, reason = "this is for the tests of the packed kernels too")]
mod tiny;

use tiny::Tiny;

const VOCABULARY: usize = 50;

fn prompt(count: u32) -> Vec<u32> {
    (0..count).map(|index| (index.wrapping_mul(2_654_435_761) >> 8) % VOCABULARY as u32).collect()
}

fn load(path: &Path) -> Candle {
    let gguf = Gguf::read(path).expect("a sound file");
    Candle::load(path, &gguf, VOCABULARY, usize::MAX).expect("a model for candle")
}

/// The logits after a prompt, appended in pieces of these lengths in turn.
fn logits(model: &mut Candle, prompt: &[u32], pieces: &[usize]) -> Vec<f32> {
    let (sequence, _) = model.open(prompt, Scope::default(), None);
    let (mut rest, mut last) = (prompt, None);
    for length in pieces.iter().cycle() {
        let (tokens, others) = rest.split_at((*length).min(rest.len()));
        rest = others;
        let chunk = Chunk { sequence, tokens, logits: rest.is_empty() };
        let outcome = model.step(&[chunk]).expect("candle has room").remove(0);
        last = outcome.expect("a model that computes");
        if rest.is_empty() {
            break;
        }
    }
    model.close(sequence);
    last.expect("the last piece asked for them")
}

fn packed_logits(path: &Path, prompt: &[u32]) -> Vec<f32> {
    let gguf = Gguf::read(path).expect("a sound file");
    let options = Options { threads: 1, isa: None, kv_blocks: 64, kv_type: KvType::F32, context_cap: 1024 };
    let mut model = PackedModel::load(path, &gguf, options).expect("a model with kernels");
    let sequence = model.open();
    let chunk = Chunk { sequence, tokens: prompt, logits: true };
    model.step(&[chunk]).expect("room for the prompt").row(0).to_vec()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    let square = |value: f32| f64::from(value) * f64::from(value);
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    let error = (difference / expected.iter().copied().map(square).sum::<f64>()).sqrt();
    assert!(error < 1e-4, "{what}: relative error {error}");
}

#[test]
fn every_family_with_kernels_has_the_same_logits_here() {
    let windowed = ["qwen2", "phi3"].map(|family| Tiny { window: Some(5), ..Tiny::new(family) });
    let half = Tiny { formats: vec![candle_core::quantized::GgmlDType::F16], ..Tiny::new("qwen3") };
    for tiny in Tiny::all().chain(windowed).chain([half]) {
        let (_folder, path) = tiny.write();
        let mut model = load(&path);
        for count in [1, 2, 17, 40] {
            let prompt = prompt(count);
            let expected = packed_logits(&path, &prompt);
            for pieces in [&[64][..], &[1], &[7, 1, 3]] {
                let what = format!("{}, window {:?}, {count} tokens by {pieces:?}", tiny.family, tiny.window);
                assert_close(&logits(&mut model, &prompt, pieces), &expected, &what);
            }
        }
    }
}

#[test]
fn families_of_candle_alone_compute_what_they_should() {
    for family in others::FAMILIES {
        let (_folder, path) = others::write(family, VOCABULARY, &others::metadata(family));
        let plain = Plain::read(family, &path).expect("a sound file");
        let mut model = load(&path);
        for count in [1, 2, 17, 40] {
            let prompt = prompt(count);
            let expected = plain.logits(&prompt);
            assert_close(
                &logits(&mut model, &prompt, &[64]),
                &expected,
                &format!("{family}, {count} tokens"),
            );
        }
    }
}

#[test]
fn families_of_candle_alone_compute_the_same_in_pieces_and_in_company() {
    for family in others::FAMILIES {
        let (_folder, path) = others::write(family, VOCABULARY, &others::metadata(family));
        let mut model = load(&path);
        let (one, other) = (prompt(23), prompt(9));
        let expected = logits(&mut model, &one, &[64]);
        assert!(expected.iter().all(|value| value.is_finite()));
        assert_ne!(expected, logits(&mut model, &other, &[64]));
        for pieces in [&[1][..], &[7, 1, 3]] {
            assert_close(&logits(&mut model, &one, pieces), &expected, &format!("{family} by {pieces:?}"));
        }
        // Two sequences at once, step by step, and a third begun anew in between.
        let (first, _) = model.open(&one, Scope::default(), None);
        let (second, _) = model.open(&other, Scope::default(), None);
        let mut last = Vec::new();
        for (index, token) in one.iter().enumerate() {
            let mine = Chunk { sequence: first, tokens: &[*token], logits: true };
            let theirs = Chunk { sequence: second, tokens: &[other[index % other.len()]], logits: false };
            last = model.step(&[theirs, mine]).expect("room");
            assert!(logits(&mut model, &other, &[2]).iter().all(|value| value.is_finite()));
        }
        let last = last.remove(1).expect("computed").expect("asked for");
        assert_close(&last, &expected, family);
    }
}

#[test]
fn a_context_ends_where_the_model_would_compute_something_else() {
    let (_folder, path) = Tiny { window: Some(5), ..Tiny::new("llama") }.write();
    assert_eq!(load(&path).context_length(), 5, "candle's llama has no windows");
    let (_folder, path) = Tiny { window: Some(5), ..Tiny::new("qwen2") }.write();
    assert_eq!(load(&path).context_length(), 256);
    let gguf = Gguf::read(&path).expect("a sound file");
    let capped = Candle::load(&path, &gguf, VOCABULARY, 100).expect("a model for candle");
    assert_eq!(capped.context_length(), 100);
}
