//! Loading models and computing with them.

use std::path::{Path, PathBuf};

use dividend_engine::Gguf;
use dividend_engine::packed::{Chunk, Isa, KvType, Options, PackedModel};

pub const MODEL: &str = "smollm2-135m-instruct-q4_1.gguf";

/// The real model.
pub fn real_model() -> PathBuf {
    fetched(MODEL)
}

/// A model that `tools/setup.sh test` fetches: in the folder that `DIVIDEND_TEST_MODELS` names, or in the cache folder of
/// the repository.
pub fn fetched(file: &str) -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings file")]
    let named = std::env::var("DIVIDEND_TEST_MODELS").ok().map(PathBuf::from);
    let cached = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/models");
    let path = named.unwrap_or_else(cached).join(file);
    assert!(path.exists(), "no {}: tools/setup.sh test fetches it", path.display());
    path
}

pub const OPTIONS: Options =
    Options { threads: 2, isa: None, kv_blocks: 64, kv_type: KvType::F32, context_cap: 1024 };

pub fn load(path: &Path, options: Options) -> PackedModel {
    let gguf = Gguf::read(path).expect("a sound file");
    PackedModel::load(path, &gguf, options).expect("a model with packed kernels")
}

pub fn instruction_sets() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// Token ids without meaning, but the same on every run.
pub fn tokens(seed: u32, count: usize, vocabulary: usize) -> Vec<u32> {
    let scatter = |index: u32| (seed.wrapping_mul(977).wrapping_add(index)).wrapping_mul(2_654_435_761) >> 8;
    (0..count as u32).map(|index| scatter(index) % vocabulary as u32).collect()
}

/// The logits after a prompt, appended in chunks of `chunk` tokens, as bits.
pub fn logits(model: &mut PackedModel, prompt: &[u32], chunk: usize) -> Vec<f32> {
    let sequence = model.open();
    let mut last = Vec::new();
    for tokens in prompt.chunks(chunk) {
        let logits = model.step(&[Chunk { sequence, tokens, logits: true }]).expect("room for the prompt");
        last = logits.row(0).to_vec();
    }
    model.close(sequence);
    last
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub fn largest(values: &[f32]) -> usize {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).expect("some values")
}

/// Root of the mean square of the difference, relative to that of the expected values.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let difference: f64 = found.iter().zip(expected).map(|(found, expected)| square(found - expected)).sum();
    (difference / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// Conversations as tokens, and llama.cpp's greedy answers. Made as the engine's own `smollm2_greedy.json`.
pub fn conversations() -> Vec<(Vec<u32>, Vec<u32>)> {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../data/smollm2_greedy.json")).expect("JSON");
    let tokens = |value: &serde_json::Value| -> Vec<u32> {
        let tokens = value.as_array().expect("an array of tokens").iter();
        tokens.map(|token| token.as_u64().expect("a token") as u32).collect()
    };
    let conversations = file.as_array().expect("an array of conversations").iter();
    conversations.map(|one| (tokens(&one["prompt"]), tokens(&one["tokens"]))).collect()
}

/// A dozen prompts: beginnings of the conversations.
pub fn prompts() -> Vec<Vec<u32>> {
    let cuts: [&[usize]; 3] = [&[2, 9, 20, 37, 41, 45], &[37, 44, 64], &[37, 44, 62]];
    let whole = conversations().into_iter().map(|(prompt, answer)| [prompt, answer].concat());
    whole.zip(cuts).flat_map(|(text, cuts)| cuts.iter().map(move |count| text[..*count].to_vec())).collect()
}
