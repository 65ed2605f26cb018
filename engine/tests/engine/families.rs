//! Every family of models, really served: through the packed kernels, through candle, and refused where neither can.

use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{self, Content, Value};
use dividend_engine::{BackendKind, Engine, EngineError, EngineOptions};
use tempfile::TempDir;

use crate::common::{Answer, greedy, read};
use crate::others;
use crate::sized::Tiny;
use crate::tiny::{END, VOCABULARY, vocabulary};

const WORDS: usize = VOCABULARY as usize;

/// What a file needs to be spoken with: the tokenizer of the tiny llama.
fn tokenizer() -> others::Metadata {
    let text = |key: &str, text: &str| (key.to_owned(), Value::String(text.to_owned()));
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let kinds = (0..WORDS).map(|id| Value::I32(if id == END as usize { 3 } else { 1 })).collect();
    vec![
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", "gpt-2"),
        ("tokenizer.ggml.tokens".to_owned(), texts(vocabulary())),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(kinds)),
        ("tokenizer.ggml.merges".to_owned(), texts(vec!["h e".to_owned()])),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(END)),
    ]
}

/// The model with a tokenizer, as a file that lives as long as the first of the pair.
fn speaking(tiny: Tiny) -> (TempDir, PathBuf) {
    rewritten(tiny, |_| ())
}

/// The same with other metadata.
fn rewritten(tiny: Tiny, change: impl FnOnce(&mut others::Metadata)) -> (TempDir, PathBuf) {
    let (folder, silent) = Tiny { vocabulary: WORDS, ..tiny }.write();
    let mut file = std::fs::File::open(&silent).expect("just written");
    let content = Content::read(&mut file).expect("a sound file");
    let names = content.tensor_infos.keys();
    let tensors: Vec<_> =
        names.map(|name| (name, content.tensor(&mut file, name, &Device::Cpu).expect("a tensor"))).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut metadata: others::Metadata = content.metadata.clone().into_iter().chain(tokenizer()).collect();
    change(&mut metadata);
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let path = folder.path().join("speaking.gguf");
    let mut file = std::fs::File::create(&path).expect("a writable folder");
    gguf_file::write(&mut file, &metadata, &tensors).expect("a model that candle can write");
    (folder, path)
}

fn other(family: &str, change: &[(&str, Option<Value>)]) -> (TempDir, PathBuf) {
    let mut metadata: others::Metadata = others::metadata(family).into_iter().chain(tokenizer()).collect();
    for (key, value) in change {
        let key = key.replace("FAMILY", family);
        metadata.retain(|(name, _)| *name != key);
        metadata.extend(value.clone().map(|value| (key, value)));
    }
    others::write(family, WORDS, &metadata)
}

fn load(path: &Path, backend: BackendKind) -> Result<Engine, EngineError> {
    let options = EngineOptions { backend, threads: 1, prefill_chunk: 5, ..EngineOptions::default() };
    Engine::load(path, options)
}

const PROMPTS: [&str; 3] =
    ["he said that hens have", "no", "a longer prompt, read in several chunks of five"];

/// Greedy answers to all prompts, asked at once.
fn answers(engine: &Engine) -> Vec<Answer> {
    let ask = |prompt: &&str| {
        let tokens = engine.tokenize(prompt).expect("any text");
        engine.submit(greedy(&tokens, 12)).expect("room for all")
    };
    let generations: Vec<_> = PROMPTS.iter().map(ask).collect();
    generations.into_iter().map(read).collect()
}

#[test]
fn packed_and_candle_give_the_same_answers_for_every_family_that_both_compute() {
    for tiny in Tiny::all() {
        let family = tiny.family;
        let (_folder, path) = speaking(tiny);
        let engines =
            [BackendKind::Packed, BackendKind::Candle].map(|backend| load(&path, backend).expect(family));
        let [packed, candle] = &engines;
        assert_eq!((packed.info().backend, candle.info().backend), ("packed", "candle"), "{family}");
        assert_eq!(candle.info().architecture, family);
        assert_eq!(answers(packed), answers(candle), "{family}");
    }
}

#[test]
fn formats_without_kernels_go_to_candle() {
    for family in ["llama", "qwen2", "phi3", "gemma3"] {
        let formats = vec![GgmlDType::Q5_1, GgmlDType::F32, GgmlDType::Q8_0];
        let (_folder, path) = speaking(Tiny { formats, ..Tiny::new(family) });
        let engine = load(&path, BackendKind::Packed).expect("a model for candle");
        assert_eq!(engine.info().backend, "candle", "{family}");
        assert_eq!(answers(&engine).len(), PROMPTS.len());
        assert_eq!(engine.stats().finished, PROMPTS.len() as u64);
    }
}

#[test]
fn families_without_kernels_are_served_by_candle() {
    for family in others::FAMILIES {
        let (_folder, path) = other(family, &[]);
        let engine = load(&path, BackendKind::Packed).expect("a model for candle");
        assert_eq!((engine.info().backend, engine.info().architecture.as_str()), ("candle", family));
        let together = answers(&engine);
        let alone: Vec<_> = PROMPTS
            .iter()
            .map(|prompt| {
                let tokens = engine.tokenize(prompt).expect("any text");
                read(engine.submit(greedy(&tokens, 12)).expect("room"))
            })
            .collect();
        assert_eq!(together, alone, "{family}");
        assert!(together.iter().any(|answer| answer.usage.completion_tokens > 1));
    }
}

#[test]
fn families_that_candle_cannot_compute_here_are_refused_with_those_it_can() {
    for family in ["lfm2", "qwen3moe", "gemma2", "mamba"] {
        let architecture = Some(Value::String(family.to_owned()));
        let (_folder, path) = other("phi2", &[("general.architecture", architecture)]);
        for backend in [BackendKind::Packed, BackendKind::Candle] {
            let error = load(&path, backend).expect_err("no such family");
            assert!(
                matches!(&error, EngineError::Unsupported { what, .. } if what == "general.architecture"),
                "{error}"
            );
            assert!(error.to_string().contains("glm4") && error.to_string().contains(family), "{error}");
        }
    }
}

#[test]
fn numbers_that_candle_would_stumble_over_are_refused_first() {
    let keys = [
        "FAMILY.block_count",
        "FAMILY.context_length",
        "FAMILY.embedding_length",
        "FAMILY.feed_forward_length",
        "FAMILY.attention.head_count",
        "FAMILY.attention.head_count_kv",
        "FAMILY.rope.dimension_count",
        "FAMILY.attention.key_length",
        "FAMILY.attention.sliding_window",
        "FAMILY.rope.freq_base",
    ];
    let values = [0, 1, 2, 3, 5, 7, 63, 64, 1 << 16, u32::MAX].map(Value::U32);
    let others: [Option<Value>; 4] =
        [None, Some(Value::F32(f32::NAN)), Some(Value::F32(-1.0)), Some(Value::String("many".to_owned()))];
    let families = others::FAMILIES.into_iter().chain(["qwen2", "qwen3", "gemma3", "phi3"]);
    for family in families {
        for key in keys {
            for value in values.iter().cloned().map(Some).chain(others.clone()) {
                let (_folder, path) = if others::FAMILIES.contains(&family) {
                    other(family, &[(key, value.clone())])
                } else {
                    spoiled(family, &key.replace("FAMILY", family), value.clone())
                };
                match load(&path, BackendKind::Candle) {
                    Ok(engine) => assert_eq!(answers_or_refusal(&engine), Ok(()), "{family} {key} {value:?}"),
                    Err(error) => {
                        assert!(!error.to_string().contains("panicked"), "{family} {key} {value:?}: {error}");
                    }
                }
            }
        }
    }
}

/// What loads must answer, if its context has room for that.
fn answers_or_refusal(engine: &Engine) -> Result<(), String> {
    let Ok(generation) = engine.submit(greedy(&[1, 2, 3, 4, 5, 6, 7], 2)) else { return Ok(()) };
    let mut generation = generation;
    while let Some(event) = generation.blocking_next() {
        if let dividend_engine::Event::Failed(error) = event {
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// A model of a family that both backends know, with one entry of its metadata replaced or removed.
fn spoiled(family: &'static str, key: &str, value: Option<Value>) -> (TempDir, PathBuf) {
    rewritten(Tiny { layers: 1, ..Tiny::new(family) }, |metadata| {
        metadata.retain(|(name, _)| name != key);
        metadata.extend(value.map(|value| (key.to_owned(), value)));
    })
}
