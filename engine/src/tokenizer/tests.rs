//! Ids equal to llama.cpp's, over texts that tokenizers get wrong: `fixtures/tokenizers`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Tokenizer;
use crate::gguf::Gguf;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

/// Ids with control tokens as text, and with control tokens read where that differs.
#[derive(Deserialize)]
struct Case {
    plain: Vec<u32>,
    control: Option<Vec<u32>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tokenizers")
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let bytes = std::fs::read(fixtures().join(name)).expect("the fixture is there");
    serde_json::from_slice(&bytes).expect("the fixture is JSON of this form")
}

fn texts() -> Vec<String> {
    let texts: Vec<String> = read("texts.json");
    assert!(texts.len() > 140);
    texts
}

fn tokenizer(path: &Path) -> Tokenizer {
    let gguf = Gguf::read(path).expect("a sound file");
    Tokenizer::from_gguf(&gguf).expect("a sound vocabulary")
}

fn synthetic(name: &str) -> Tokenizer {
    tokenizer(&fixtures().join(format!("{name}.gguf")))
}

/// A model that `tools/setup.sh test` fetches.
fn model(file: &str) -> Tokenizer {
    let cached = format!(".cache/models/{file}");
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let path = above.map(|folder| folder.join(&cached)).find(|path| path.is_file());
    tokenizer(&path.unwrap_or_else(|| panic!("no {cached} above the crate: run tools/setup.sh test")))
}

/// Without the first or last token that llama.cpp adds to a text that has written it already.
fn once(mut ids: &[u32], [bos, eos]: [Option<u32>; 2]) -> &[u32] {
    if let [first, second, ..] = ids
        && [*first, *second].map(Some) == [bos; 2]
    {
        ids = &ids[1..];
    }
    if let [.., second, last] = ids
        && [*second, *last].map(Some) == [eos; 2]
    {
        ids = &ids[..ids.len() - 1];
    }
    ids
}

fn check_reference(tokenizer: &Tokenizer, name: &str) {
    let reference: Reference = read(&format!("{name}.json"));
    let texts = texts();
    assert_eq!(reference.cases.len(), texts.len());
    for (text, Case { plain, control }) in texts.iter().zip(&reference.cases) {
        assert_eq!(&tokenizer.encode(text).expect("short"), plain, "{name}: {text:?}");
        let control = control.as_ref().unwrap_or(plain);
        let found = tokenizer.encode_with_control(text).expect("short");
        assert_eq!(found, once(control, tokenizer.special.around()), "{name}, control tokens read: {text:?}");
    }
}

/// What was encoded reads the same, but for what stands for a space.
fn check_round_trip(tokenizer: &Tokenizer) {
    for text in texts() {
        let ids = tokenizer.encode(&text).expect("short");
        assert_eq!(tokenizer.decode(&ids), text.replace('▁', " "), "{text:?}");
    }
}

#[test]
fn a_llama_of_bytes_and_merges_is_as_the_reference() {
    let tokenizer = model("smollm2-135m-instruct-q4_1.gguf");
    check_reference(&tokenizer, "smollm2");
    for text in texts() {
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text).expect("short")), text);
    }
}

#[test]
fn gemma_is_as_the_reference() {
    let tokenizer = model("gemma-3-270m-q4_k_m.gguf");
    check_reference(&tokenizer, "gemma3");
    check_round_trip(&tokenizer);
    let [bos, eos, turn] = [2, 1, 106];
    assert_eq!((tokenizer.bos_text(), tokenizer.eos_text()), ("<bos>", "<eos>"));
    assert!(tokenizer.ends(eos) && tokenizer.ends(turn) && !tokenizer.ends(bos));
}

#[test]
fn a_space_before_the_text_is_as_the_reference() {
    let tokenizer = synthetic("prefix");
    check_reference(&tokenizer, "prefix");
    for text in ["Hello", " Hello", "Hello world ", "é\u{301} 日本語 🙂", "<s> is text"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).expect("short")), text);
    }
}

#[test]
fn text_as_it_is_and_an_end_after_it_are_as_the_reference() {
    let tokenizer = synthetic("words");
    check_reference(&tokenizer, "words");
    check_round_trip(&tokenizer);
}

#[test]
fn white_space_left_out_after_control_tokens_is_as_the_reference() {
    let tokenizer = synthetic("strip");
    check_reference(&tokenizer, "strip");
    let stripped = tokenizer.encode_with_control("<|user|>\n\t Hello").expect("short");
    assert_eq!(stripped, tokenizer.encode_with_control("<|user|>Hello").expect("short"));
}

#[test]
fn words_are_cut_as_the_reference_cuts_them() {
    let gguf = Gguf::read(&fixtures().join("byte_level.gguf")).expect("a sound file");
    let families: BTreeMap<String, String> = read("families.json");
    assert!(families.len() > 20);
    let texts: Vec<String> = texts().into_iter().filter(|text| text.chars().count() <= 120).collect();
    for (name, digests) in families {
        let tokenizer = Tokenizer::bpe(&gguf, &name).expect("a known name");
        let digests: Vec<&str> = digests.split(' ').collect();
        assert_eq!(digests.len(), texts.len());
        for (text, expected) in texts.iter().zip(digests) {
            let ids = tokenizer.encode(text).expect("short");
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            let digest: String =
                Sha256::digest(&bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected, "{name}: {text:?} gives {ids:?}");
        }
    }
}

#[test]
fn a_conversation_begins_once_and_does_not_end() {
    let mark = '\u{fdd0}';
    let chat = |tokenizer: &Tokenizer, text: &str| tokenizer.encode_guarded(text, mark).expect("short");
    let prefix = synthetic("prefix");
    let [bos, eos] = [1, 2];
    assert_eq!(chat(&prefix, "<s><|user|>Hi"), chat(&prefix, "<|user|>Hi"));
    assert_eq!(chat(&prefix, "<s>Hi").iter().filter(|id| **id == bos).count(), 1);
    let words = synthetic("words");
    assert_eq!(words.encode("Hi").expect("short").last(), Some(&eos));
    assert_eq!(
        words.encode_with_control("Hi</s>").expect("short").iter().filter(|id| **id == eos).count(),
        1
    );
    assert!(!chat(&words, "<|user|>Hi").contains(&eos));
    assert!(!chat(&words, "Hi").contains(&bos));
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let tokenizer = synthetic("words");
    let error = tokenizer.encode(&"a".repeat((8 << 20) + 1)).expect_err("too long").to_string();
    assert_eq!(error, "the text has 8388609 bytes; at most 8388608 can be turned into tokens: send less");
}

/// A long run of one thing ends: quadratic work would take hours.
#[test]
fn long_runs_take_bounded_work() {
    let byte_level = Gguf::read(&fixtures().join("byte_level.gguf")).expect("a sound file");
    let named = |name| Tokenizer::bpe(&byte_level, name).expect("a known name");
    let mut tokenizers = vec![synthetic("prefix"), synthetic("words")];
    tokenizers.extend(["llama-bpe", "deepseek-llm", "tekken", "exaone-moe"].map(named));
    for tokenizer in tokenizers {
        for unit in ["a", " ", "\n", "9", "!", "日", "\u{301}", " \n", "aA", "<|"] {
            let text = unit.repeat((1 << 16) / unit.len()) + "5";
            let ids = tokenizer.encode_with_control(&text).expect("short enough");
            // A space prefix comes after every user-defined token: what is compared has no spaces.
            let decoded = tokenizer.decode(&ids).replace(' ', "");
            assert!(decoded == text.replace(' ', ""), "{unit:?} gives {} bytes", decoded.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text comes back, and none of it becomes a control token.
    #[test]
    fn any_text_stays_text(text in "(\\PC|<\\|user\\|>|<s>|<unk>|<0x0A>|[ \\n\\t]|[a-z<>|]){0,40}") {
        let tokenizer = synthetic("words");
        let ids = tokenizer.encode(&text).expect("short");
        prop_assert_eq!(tokenizer.decode(&ids), text.replace('▁', " "));
        prop_assert!(ids[..ids.len() - 1].iter().all(|id| !tokenizer.bytes(*id).is_empty()));
    }
}
