//! The real model against `fixtures/embeddings`, which an independent forward pass in f64 made.

use std::path::PathBuf;

use dividend_engine::SubmitError;
use dividend_engine::embedding::{Embedder, EmbedderOptions, EmbeddingInput, Pooling};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: Vec<u32>,
    vector: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let fixture = include_str!("../../../fixtures/embeddings/all-minilm-l6-v2.json");
    serde_json::from_str::<Fixture>(fixture).unwrap().cases
}

fn load(options: EmbedderOptions) -> Embedder {
    const CACHED: &str = ".cache/models/all-minilm-l6-v2";
    let above = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let folder: PathBuf = above
        .map(|folder| folder.join(CACHED))
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| panic!("no {CACHED}: run tools/setup.sh test"));
    Embedder::load(&folder, options).unwrap()
}

fn text(text: &str) -> EmbeddingInput {
    EmbeddingInput::Text(text.to_owned())
}

#[test]
fn tokens_and_vectors_are_the_references() {
    let embedder = load(EmbedderOptions::default());
    let info = embedder.info();
    assert_eq!((info.dimensions, info.max_tokens, info.vocab_size), (384, 256, 30_522));
    assert_eq!((info.pooling, info.normalised, info.backend), (Pooling::Mean, true, "candle"));
    // 22.7 million less the pooler, which embeddings do not use.
    assert_eq!(info.parameters, 22_565_376);
    let cases = cases();
    let pending = embedder.submit(cases.iter().map(|case| text(&case.text)).collect()).unwrap();
    let lengths: Vec<usize> = cases.iter().map(|case| case.tokens.len()).collect();
    assert_eq!(pending.tokens(), lengths);
    let vectors = pending.wait().unwrap();
    assert_eq!(vectors.len(), cases.len());
    for (case, vector) in cases.iter().zip(vectors) {
        assert_eq!(embedder.tokenize(&case.text).unwrap(), case.tokens, "{:?}", case.text);
        let furthest = case.vector.iter().zip(&vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 2e-6, "{furthest} apart: {:?}", case.text);
        assert_eq!(vector.len(), 384);
    }
}

#[test]
fn a_vector_is_the_same_to_the_bit_alone_and_in_any_company() {
    let embedder = load(EmbedderOptions::default());
    let alone = |input: EmbeddingInput| -> Vec<u32> {
        let vectors = embedder.submit(vec![input]).unwrap().wait().unwrap();
        vectors[0].iter().map(|value| value.to_bits()).collect()
    };
    // Many of the same length share a product; lengths cross the sizes at which products are blocked differently.
    let lengths = [1, 1, 2, 2, 5, 5, 5, 5, 5, 5, 7, 16, 16, 16, 17, 33, 33, 64, 64, 65, 129, 129, 256, 256];
    let inputs: Vec<EmbeddingInput> = (0_u32..)
        .zip(lengths)
        .map(|(seed, length)| {
            let token = |place: u32| 1_000 + (seed * 7_919 + place * 104_729) % 20_000;
            EmbeddingInput::Tokens((0..length).map(token).collect())
        })
        .collect();
    let together = embedder.submit(inputs.clone()).unwrap().wait().unwrap();
    for (input, vector) in inputs.into_iter().zip(together) {
        let bits: Vec<u32> = vector.iter().map(|value| value.to_bits()).collect();
        assert!(bits == alone(input.clone()), "{input:?}");
    }
    assert!(embedder.stats().steps < 24 + 24, "some were computed together");
}

#[test]
fn what_is_too_long_is_refused_with_length_and_limit() {
    let embedder = load(EmbedderOptions { token_cap: Some(16), ..EmbedderOptions::default() });
    assert_eq!(embedder.info().max_tokens, 16);
    let long = embedder.submit(vec![text("short"), text(&"word ".repeat(15))]).unwrap_err();
    assert_eq!(long, SubmitError::InputTooLong { input: 1, tokens: 17, limit: 16 });
    assert_eq!(long.to_string(), "input 1 has 17 tokens, the model reads at most 16: shorten or split it");
    assert!(!long.is_retryable());
    assert!(embedder.submit(vec![text(&"word ".repeat(14))]).is_ok());
    let huge = embedder.submit(vec![text(&"word ".repeat(10_000))]).unwrap_err();
    assert_eq!(
        huge.to_string(),
        "input is holding a text of 50000 bytes at 0; it must be of texts of up to 4096 bytes"
    );
}
