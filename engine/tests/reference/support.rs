//! Models, fixtures and probabilities.

use std::path::{Path, PathBuf};

use dividend_engine::Gguf;
use dividend_engine::packed::{Chunk, KvType, Options, PackedModel, SequenceId};
use serde::de::DeserializeOwned;

/// A file of `fixtures/reference`.
pub fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = repository().join("fixtures/reference").join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file that `tools/setup.sh test` fetches.
pub fn fetched(file: &str) -> PathBuf {
    let path = repository().join(".cache/models").join(file);
    assert!(path.exists(), "no {}: tools/setup.sh test fetches it", path.display());
    path
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder in the repository")
}

/// Loads a model with room for `sequences` sequences of `tokens` tokens. One thread each: the tests themselves
/// run side by side.
pub fn load(path: &Path, sequences: usize, tokens: usize) -> PackedModel {
    let gguf = Gguf::read(path).expect("a sound file");
    let kv_blocks = sequences * tokens.div_ceil(16);
    let options = Options { threads: 1, isa: None, kv_blocks, kv_type: KvType::F32, context_cap: tokens };
    PackedModel::load(path, &gguf, options).expect("a model with packed kernels")
}

/// Appends texts to sequences, all of them of one length, token by token and side by side. `see` is shown the
/// number of the text, the index of the token and the logits after it.
pub fn side_by_side(
    model: &mut PackedModel,
    sequences: &[SequenceId],
    texts: &[&[u32]],
    mut see: impl FnMut(usize, usize, &[f32]),
) {
    for at in 0..texts[0].len() {
        let chunks: Vec<Chunk<'_>> = sequences
            .iter()
            .zip(texts)
            .map(|(sequence, text)| Chunk { sequence: *sequence, tokens: &text[at..=at], logits: true })
            .collect();
        let logits = model.step(&chunks).expect("room for all");
        logits.rows().enumerate().for_each(|(index, row)| see(index, at, row));
    }
}

/// ln Σ exp(x), by which logits become logarithms of probabilities.
pub fn log_sum(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|value| f64::from(value - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// The index of the largest value.
pub fn largest(values: &[f32]) -> u32 {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).expect("some values") as u32
}
