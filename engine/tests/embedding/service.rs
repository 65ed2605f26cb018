//! Requests, tokens, pooling and company, on a small model.

use dividend_engine::SubmitError;
use dividend_engine::embedding::{Embedder, EmbedderOptions, EmbeddingInput, Pooling};
use serde_json::json;

use crate::tiny::{Tiny, WIDTH};

fn load(tiny: &Tiny) -> Embedder {
    Embedder::load(tiny.write().path(), EmbedderOptions::default()).unwrap()
}

fn modules(kinds: &[(&str, &str)]) -> serde_json::Value {
    let module = |(kind, path): &(&str, &str)| json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
    kinds.iter().map(module).collect()
}

fn vectors(embedder: &Embedder, inputs: &[EmbeddingInput]) -> Vec<Vec<f32>> {
    embedder.submit(inputs.to_vec()).unwrap().wait().unwrap()
}

fn text(text: &str) -> EmbeddingInput {
    EmbeddingInput::Text(text.to_owned())
}

#[test]
fn a_vocabulary_file_is_enough_for_a_tokenizer() {
    let embedder = load(&Tiny::new());
    assert_eq!(embedder.tokenize("The cats sat, dog.").unwrap(), [2, 4, 5, 7, 6, 1, 1, 8, 3]);
    let cased = Tiny::new().with("tokenizer_config.json", "do_lower_case", json!(false));
    assert_eq!(load(&cased).tokenize("The cats").unwrap(), [2, 1, 5, 7, 3]);
    let info = embedder.info();
    assert_eq!((info.dimensions, info.max_tokens, info.pooling), (WIDTH, 24, Pooling::Mean));
    assert!(!info.normalised);
}

#[test]
fn text_and_its_tokens_have_one_vector() {
    let embedder = load(&Tiny::new());
    let tokens = embedder.tokenize("the cat sat").unwrap();
    let pending = embedder.submit(vec![text("the cat sat"), EmbeddingInput::Tokens(tokens)]).unwrap();
    assert_eq!(pending.tokens(), [5, 5]);
    let vectors = pending.wait().unwrap();
    assert_eq!(vectors[0], vectors[1]);
    assert_eq!(embedder.stats().units, 10);
}

#[test]
fn pooling_and_length_are_what_the_folder_says() {
    let input = [text("the cat sat on the cat")];
    let mean = vectors(&load(&Tiny::new()), &input);
    let pooled = |mode: &str, normalised: bool| {
        let mut kinds = vec![("Transformer", ""), ("Pooling", "1_Pooling")];
        kinds.extend(normalised.then_some(("Normalize", "2_Normalize")));
        let tiny = Tiny::new().with_file("modules.json", modules(&kinds)).with(
            "1_Pooling/config.json",
            &format!("pooling_mode_{mode}"),
            json!(true),
        );
        vectors(&load(&tiny), &input)
    };
    assert_eq!(pooled("mean_tokens", false), mean);
    let [first, last] = ["cls_token", "lasttoken"].map(|mode| pooled(mode, false));
    assert!(first != last && first != mean && last != mean);
    let unit = pooled("cls_token", true);
    let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length(&unit[0]) - 1.0).abs() < 1e-6);
    for (unit, value) in unit[0].iter().zip(&first[0]) {
        assert!((unit * length(&first[0]) - value).abs() < 1e-5);
    }
}

#[test]
fn weights_under_a_prefix_or_in_half_precision_are_the_same_model() {
    let input = [text("the cat sat")];
    let plain = vectors(&load(&Tiny::new()), &input);
    let mut prefixed = Tiny::new();
    prefixed.tensors = prefixed
        .tensors
        .into_iter()
        .map(|(name, tensor)| {
            (format!("bert.{}", name.replace("LayerNorm.weight", "LayerNorm.gamma")), tensor)
        })
        .collect();
    assert_eq!(vectors(&load(&prefixed), &input), plain);
    let mut half = Tiny::new();
    for (dtype, _, bytes) in half.tensors.values_mut() {
        let values =
            bytes.as_chunks::<4>().0.iter().map(|four| half::f16::from_f32(f32::from_le_bytes(*four)));
        *bytes = values.flat_map(half::f16::to_le_bytes).collect();
        *dtype = dividend_engine::safetensors::Dtype::F16;
    }
    for (half, plain) in vectors(&load(&half), &input)[0].iter().zip(&plain[0]) {
        assert!((half - plain).abs() < 1e-2, "{half} {plain}");
    }
}

#[test]
fn narrow_models_too_give_one_vector_in_any_company() {
    let embedder = load(&Tiny::new());
    let inputs: Vec<_> = (0..40).map(|n| EmbeddingInput::Tokens(vec![n % 10; 1 + n as usize % 4])).collect();
    let together = vectors(&embedder, &inputs);
    for (input, vector) in inputs.into_iter().zip(together) {
        assert_eq!(vectors(&embedder, &[input]), [vector]);
    }
}

#[test]
fn requests_that_cannot_be_are_refused_by_name() {
    let options = EmbedderOptions { max_inputs: 3, max_request_tokens: 20, ..EmbedderOptions::default() };
    let embedder = Embedder::load(Tiny::new().write().path(), options).unwrap();
    let refused = |inputs: Vec<EmbeddingInput>| embedder.submit(inputs).unwrap_err();
    let tokens = |tokens: &[u32]| EmbeddingInput::Tokens(tokens.to_vec());
    let cases = [
        (vec![], "a list of 0"),
        (vec![text(""); 4], "a list of 4"),
        (vec![tokens(&[])], "no token at 0"),
        (vec![text("cat"), tokens(&[3, 10])], "10 at 1"),
        (vec![tokens(&[1; 15]), tokens(&[1; 6])], "more than 20 tokens"),
    ];
    for (inputs, named) in cases {
        let error = refused(inputs);
        assert!(matches!(error, SubmitError::Invalid { field: "input", .. }), "{error}");
        assert!(error.to_string().contains(named), "{named} is not in: {error}");
    }
    let long = refused(vec![tokens(&[1; 25])]);
    assert_eq!(long, SubmitError::InputTooLong { input: 0, tokens: 25, limit: 24 });
    assert!(embedder.submit(vec![text("")]).is_ok(), "an empty text has a beginning and an end");
}

#[tokio::test]
async fn many_callers_wait_without_blocking_each_other() {
    let embedder = load(&Tiny::new());
    let pending: Vec<_> =
        (0..32).map(|n| embedder.submit(vec![EmbeddingInput::Tokens(vec![n % 10; 3])])).collect();
    let mut found = Vec::new();
    for pending in pending {
        found.push(pending.unwrap().await.unwrap());
    }
    assert_eq!(found[0], found[10]);
    assert_ne!(found[0], found[1]);
    let stats = embedder.stats();
    assert_eq!((stats.finished, stats.inputs, stats.units, stats.failed), (32, 32, 96, 0));
    assert_eq!((stats.queued, embedder.health()), (0, dividend_engine::Health::Ready));
}
