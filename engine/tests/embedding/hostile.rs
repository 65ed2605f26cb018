//! Folders that are wrong, by accident or on purpose: each ends in an error that says what is wrong.

use dividend_engine::embedding::{Embedder, EmbedderOptions};
use dividend_engine::safetensors::{Dtype, Header, SafeTensorsError};
use dividend_engine::{EngineError, Health};
use proptest::prelude::*;
use serde_json::json;

use crate::tiny::{Tiny, WIDTH};

fn refused(tiny: &Tiny) -> String {
    Embedder::load(tiny.write().path(), EmbedderOptions::default()).unwrap_err().to_string()
}

#[test]
fn configurations_that_cannot_be_are_refused_by_key() {
    let with = |key: &str, value| Tiny::new().with("config.json", key, value);
    let cases = [
        (with("model_type", json!("roberta")), "model_type"),
        (with("position_embedding_type", json!("relative_key")), "position_embedding_type"),
        (with("hidden_act", json!("swish")), "hidden_act"),
        (with("hidden_size", json!(null)), "hidden_size"),
        (with("num_attention_heads", json!(0)), "num_attention_heads"),
        (with("num_attention_heads", json!(5)), "num_attention_heads"),
        (with("num_hidden_layers", json!(u64::MAX)), "num_hidden_layers"),
        (with("num_hidden_layers", json!(3)), "encoder.layer.2."),
        (with("vocab_size", json!(11)), "embeddings.word_embeddings.weight"),
        (with("intermediate_size", json!(64)), "intermediate.dense.weight"),
        (with("max_position_embeddings", json!(0)), "max_position_embeddings"),
        (with("max_position_embeddings", json!(60_000)), "attention scores"),
        (with("layer_norm_eps", json!(-1.0)), "layer_norm_eps"),
        (with("vocab_size", json!("many")), "config.json"),
        (Tiny::new().with("sentence_bert_config.json", "max_seq_length", json!(25)), "max_seq_length"),
        (
            Tiny::new().with("config_sentence_transformers.json", "default_prompt_name", json!("q")),
            "default_prompt_name",
        ),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn modules_that_would_change_the_vector_are_refused() {
    let module = |kind: &str, path: &str| json!({"type": kind, "path": path});
    let modules = |list: Vec<serde_json::Value>| Tiny::new().with_file("modules.json", json!(list));
    let pooling = |mode: &str| {
        modules(vec![module("Transformer", ""), module("Pooling", "1")]).with(
            "1/config.json",
            mode,
            json!(true),
        )
    };
    let cases = [
        (modules(vec![module("Transformer", "../elsewhere")]), "../elsewhere"),
        (modules(vec![module("Transformer", "/etc")]), "/etc"),
        (modules(vec![module("a.b.Dense", "")]), "Dense"),
        (modules(vec![module("Transformer", ""), module("Normalize", "")]), "Normalize"),
        (pooling("pooling_mode_max_tokens"), "max_tokens"),
        (
            pooling("pooling_mode_mean_tokens").with("1/config.json", "pooling_mode_cls_token", json!(true)),
            "cls_token + mean_tokens",
        ),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn tokenizers_made_of_other_parts_are_refused() {
    let sound = || {
        let vocabulary = json!({"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "cat": 5});
        Tiny::new().with_file("tokenizer.json", json!({
            "version": "1.0", "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": null, "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
        }))
    };
    let folder = sound().write();
    let embedder = Embedder::load(folder.path(), EmbedderOptions::default()).unwrap();
    assert_eq!(
        embedder.tokenize("cat cat dog cat cat").unwrap(),
        [2, 5, 5, 1, 5, 5, 3],
        "nothing is cut off"
    );
    let mut model = sound().json["tokenizer.json"]["model"].clone();
    model["max_input_chars_per_word"] = json!(1_000_000_000);
    let mut many = model.clone();
    many["max_input_chars_per_word"] = json!(100);
    many["vocab"]["dog"] = json!(77);
    let with = |key: &str, value| sound().with("tokenizer.json", key, value);
    let cases = [
        (
            with("normalizer", json!({"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""})),
            "normalizer",
        ),
        (with("pre_tokenizer", json!({"type": "Whitespace"})), "pre_tokenizer"),
        (with("post_processor", json!(null)), "post_processor"),
        (with("model", json!({"type": "Unigram", "vocab": []})), "model"),
        (with("model", model), "max_input_chars_per_word"),
        (with("model", many), "token id 77"),
        (Tiny::new().with_file("tokenizer.json", json!([1, 2])), "tokenizer.json"),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn weights_that_cannot_be_are_refused_by_tensor() {
    let name = "encoder.layer.1.output.dense.bias";
    let mut integers = Tiny::new();
    integers.tensors.insert(name.to_owned(), (Dtype::I32, vec![WIDTH], vec![0; 4 * WIDTH]));
    for tiny in [
        Tiny::new().without_tensor(name),
        Tiny::new().with_floats(name, &[WIDTH, 1], 0.0),
        Tiny::new().with_floats(name, &[WIDTH + 1], 0.0),
        Tiny::new().with_floats(name, &[WIDTH], f32::NAN),
        Tiny::new().with_floats(name, &[WIDTH], f32::INFINITY),
        integers,
    ] {
        let error = refused(&tiny);
        assert!(error.contains(name), "{name} is not in: {error}");
    }
}

#[test]
fn what_has_no_finite_vector_is_refused_at_loading() {
    let name = "encoder.layer.1.output.LayerNorm.weight";
    let error = refused(&Tiny::new().with_floats(name, &[WIDTH], f32::MAX));
    assert!(error.contains("not finite"), "{error}");
}

#[test]
fn files_that_are_missing_are_named() {
    for file in ["config.json", "model.safetensors", "vocab.txt"] {
        let folder = Tiny::new().write();
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = Embedder::load(folder.path(), EmbedderOptions::default()).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
    }
    let options = EmbedderOptions { step_tokens: 0, ..EmbedderOptions::default() };
    let error = Embedder::load(Tiny::new().write().path(), options).unwrap_err();
    assert!(matches!(error, EngineError::Option { option: "step_tokens", .. }), "{error}");
}

#[test]
fn a_header_is_held_against_the_file() {
    let bytes = Tiny::new().safetensors();
    assert!(Header::parse(&bytes).unwrap().tensors().len() > 30);
    for length in (0..bytes.len()).step_by(997) {
        assert!(Header::parse(&bytes[..length]).is_err(), "cut at {length}");
    }
    let with_length = |length: u64| [&length.to_le_bytes(), &bytes[8..]].concat();
    assert!(matches!(Header::parse(&with_length(u64::MAX)), Err(SafeTensorsError::TooMuch { .. })));
    assert!(matches!(Header::parse(&with_length(4 << 20)), Err(SafeTensorsError::Truncated { .. })));
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let tensor = |shape: &str, start: u64, end: u64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let pair = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    assert!(Header::parse(&file(&pair(tensor("[2]", 0, 8), tensor("[1]", 8, 12)), 12)).is_ok());
    let wrong = [
        (pair(tensor("[2]", 0, 8), tensor("[1]", 4, 8)), 8),
        (pair(tensor("[2]", 0, 8), tensor("[2]", 0, 8)), 8),
        (pair(tensor("[2]", 0, 8), tensor("[1]", 12, 16)), 16),
        (pair(tensor("[2]", 0, 8), tensor("[1]", 8, 12)), 16),
        (pair(tensor("[2]", 0, 8), tensor("[4611686018427387904,4]", 8, 8)), 8),
        (pair(tensor("[2]", 0, 8), tensor("[2]", 8, 12)), 12),
        (pair(tensor("[2]", 8, 0), tensor("[1]", 8, 12)), 12),
        ("[".repeat(10_000), 0),
    ];
    for (header, data) in wrong {
        assert!(
            matches!(Header::parse(&file(&header, data)), Err(SafeTensorsError::Malformed(_))),
            "{header:.200}"
        );
    }
    let deep = file(&format!(r#"{{"a":{}}}"#, tensor("[1,1,1,1,1,1,1,1,1]", 0, 4)), 4);
    assert!(matches!(Header::parse(&deep), Err(SafeTensorsError::TooMuch { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is flipped in the header, loading ends in a model or an error.
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = Tiny::new().safetensors();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        for (place, value) in flips {
            let place = place.index(header);
            bytes[place] = value;
        }
        let folder = Tiny::new().write();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        if let Ok(embedder) = Embedder::load(folder.path(), EmbedderOptions::default()) {
            prop_assert_eq!(embedder.health(), Health::Ready);
        }
    }
}
