//! Files that are wrong, by accident or on purpose: each ends in an error that says what is wrong.

use std::io::Cursor;
use std::path::Path;

use dividend_engine::gguf::{Gguf, GgufError};
use dividend_engine::{Engine, EngineError, EngineOptions};
use proptest::prelude::*;

use crate::common::{greedy, read};
use crate::tiny::{END, Meta, Tiny, VOCABULARY, write_bytes};

fn parse(bytes: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::parse(Cursor::new(bytes))
}

fn load(bytes: &[u8]) -> Result<Engine, EngineError> {
    let (_folder, path) = write_bytes(bytes);
    Engine::load(&path, EngineOptions::default())
}

fn refused(tiny: &Tiny) -> String {
    load(&tiny.bytes()).expect_err("a spoiled file").to_string()
}

fn with_u64(at: usize, value: u64) -> Vec<u8> {
    let mut bytes = Tiny::new().bytes();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn the_unspoiled_file_works() {
    let engine = load(&Tiny::new().bytes()).expect("a sound file");
    assert_eq!((engine.info().name.as_str(), engine.info().context_length), ("tiny", 512));
    assert_eq!(engine.tokenize("he h").expect("any text").len(), 3);
    let answer = read(engine.submit(greedy(&[1, 2, 3], 5)).expect("a sound request"));
    assert!(answer.usage.completion_tokens <= 5);
}

#[test]
fn a_missing_file_is_named_with_the_remedy() {
    let error = Engine::load(Path::new("/nowhere/model.gguf"), EngineOptions::default()).expect_err("absent");
    assert!(matches!(error, EngineError::Missing { .. }));
    assert_eq!(
        error.to_string(),
        "no model file at /nowhere/model.gguf: fetch it first, or correct the path in the settings"
    );
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let (_folder, path) = Tiny::new().write();
    let options = EngineOptions { max_sequences: 0, ..EngineOptions::default() };
    let error = Engine::load(&path, options).expect_err("no sequences");
    assert_eq!(error.to_string(), "engine option max_sequences is 0; it must be from 1 to 256");
}

#[test]
fn magic_and_version_are_checked() {
    assert!(matches!(parse(b"PK\x03\x04 a zip file"), Err(GgufError::Magic { .. })));
    assert!(matches!(parse(b"GGUF\x09\0\0\0"), Err(GgufError::Version { found: 9 })));
    assert!(matches!(parse(b"GG"), Err(GgufError::Truncated { .. })));
}

#[test]
fn absurd_counts_and_lengths_are_refused_before_anything_is_allocated() {
    let (tensor_count, entry_count, key_length) = (8, 16, 24);
    for at in [tensor_count, entry_count, key_length] {
        assert!(matches!(parse(&with_u64(at, u64::MAX)), Err(GgufError::TooMuch { .. })), "at {at}");
    }
    // Believable, but more than the file holds.
    assert!(matches!(parse(&with_u64(tensor_count, 60_000)), Err(GgufError::Truncated { .. })));
    assert!(matches!(parse(&with_u64(key_length, 1 << 20)), Err(GgufError::Truncated { .. })));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = Tiny::new().bytes();
    for length in (0..bytes.len()).step_by(7) {
        assert!(matches!(parse(&bytes[..length]), Err(GgufError::Truncated { .. })), "cut at {length}");
    }
    assert!(parse(&bytes).is_ok());
}

#[test]
fn tensors_must_lie_in_the_file_apart_and_aligned() {
    let spoil = |change: &dyn Fn(&mut Tiny)| {
        let mut tiny = Tiny::new();
        change(&mut tiny);
        parse(&tiny.bytes()).expect_err("a spoiled tensor")
    };
    let q = "blk.0.attn_q.weight";
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).offset = Some(1 << 40)), GgufError::Truncated { .. }));
    assert!(matches!(
        spoil(&|tiny| tiny.tensor(q).offset = Some(u64::MAX - 31)),
        GgufError::Truncated { .. }
    ));
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).offset = Some(64)), GgufError::Clash { .. }));
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).offset = Some(33)), GgufError::Clash { .. }));
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).sides = vec![u64::MAX, 2]), GgufError::Invalid { .. }));
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).sides = vec![0, 32]), GgufError::Invalid { .. }));
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).sides = vec![1; 5]), GgufError::Invalid { .. }));
    assert!(matches!(spoil(&|tiny| tiny.tensor(q).type_id = 77), GgufError::Invalid { .. }));
    assert!(matches!(
        spoil(&|tiny| tiny.tensor(q).name = "output_norm.weight".to_owned()),
        GgufError::Clash { .. }
    ));
    for alignment in [0, 3, 4, 1 << 20] {
        let tiny = Tiny::new().set("general.alignment", Meta::U32(alignment));
        assert!(matches!(parse(&tiny.bytes()), Err(GgufError::Invalid { .. })), "{alignment}");
    }
    let mut twice = Tiny::new();
    twice.meta.push(("general.name".to_owned(), Meta::U32(1)));
    assert!(matches!(parse(&twice.bytes()), Err(GgufError::Clash { what: "key", .. })));
}

#[test]
fn metadata_that_cannot_be_a_llama_is_refused_by_key() {
    let tiny = Tiny::new;
    let cases = [
        (tiny().set("general.architecture", Meta::Text("mamba".to_owned())), "general.architecture"),
        (tiny().without("general.architecture"), "general.architecture"),
        (tiny().set("llama.attention.head_count", Meta::U32(0)), "llama.attention.head_count"),
        (tiny().set("llama.attention.head_count", Meta::U32(5)), "llama.attention.head_count"),
        (tiny().set("llama.attention.head_count_kv", Meta::U32(3)), "llama.attention.head_count_kv"),
        (tiny().set("llama.block_count", Meta::U32(u32::MAX)), "llama.block_count"),
        (tiny().set("llama.block_count", Meta::U32(2)), "blk.1."),
        (tiny().set("llama.rope.dimension_count", Meta::U32(18)), "llama.rope.dimension_count"),
        (tiny().set("llama.feed_forward_length", Meta::U32(64)), "blk.0.ffn_gate.weight"),
        (tiny().set("llama.attention.layer_norm_rms_epsilon", Meta::F32(f32::NAN)), "layer_norm_rms_epsilon"),
        (tiny().set("llama.rope.scaling.type", Meta::Text("yarn".to_owned())), "llama.rope.scaling.type"),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn tokenizers_that_cannot_work_are_refused_by_key() {
    let tiny = Tiny::new;
    let text = |text: &str| Meta::Text(text.to_owned());
    let cases = [
        (tiny().set("tokenizer.ggml.model", text("rwkv")), "\"llama\" (SentencePiece BPE)"),
        (tiny().without("tokenizer.ggml.model"), "tokenizer.ggml.model"),
        (tiny().set("tokenizer.ggml.pre", text("unheard-of")), "llama-bpe"),
        (tiny().set("tokenizer.ggml.tokens", Meta::Texts(Vec::new())), "tokenizer.ggml.tokens"),
        (tiny().set("tokenizer.ggml.token_type", Meta::Ints(vec![1; 3])), "tokenizer.ggml.token_type"),
        (tiny().set("tokenizer.ggml.merges", Meta::Texts(vec!["q".to_owned()])), "tokenizer.ggml.merges"),
        (tiny().set("tokenizer.ggml.merges", Meta::Texts(vec!["q z".to_owned()])), "tokenizer.ggml.merges"),
        (
            tiny().set("tokenizer.ggml.eos_token_id", Meta::U32(VOCABULARY as u32)),
            "tokenizer.ggml.eos_token_id",
        ),
        (tiny().set("tokenizer.chat_template", text("{% for %}")), "chat template"),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

/// A SentencePiece vocabulary of the tiny model's size, in which "<e>" is a control token that its letters could be
/// merged to.
fn pieces() -> Tiny {
    let first = ["<unk>", "<s>", "</s>", "<", "e", ">", "<e", "e>", "<e>", "▁", "<0x0A>"];
    let fill = (first.len()..VOCABULARY as usize).map(|id| format!("filler {id}"));
    let tokens: Vec<String> = first.iter().map(|text| (*text).to_owned()).chain(fill).collect();
    let kinds =
        (0..VOCABULARY).map(|id| [2, 3, 3, 1, 1, 1, 1, 1, 3, 1, 6].get(id as usize).copied().unwrap_or(1));
    Tiny::new()
        .set("tokenizer.ggml.model", Meta::Text("llama".to_owned()))
        .set("tokenizer.ggml.tokens", Meta::Texts(tokens))
        .set("tokenizer.ggml.token_type", Meta::Ints(kinds.collect()))
        .set("tokenizer.ggml.scores", Meta::Floats(vec![0.0; VOCABULARY as usize]))
        .set("tokenizer.ggml.eos_token_id", Meta::U32(2))
        .set("tokenizer.ggml.add_space_prefix", Meta::Bool(false))
}

#[test]
fn a_control_token_is_not_merged_from_its_letters() {
    let engine = load(&pieces().bytes()).expect("a sound file");
    let [unknown, bos, open, close, begun, control, space] = [0, 1, 3, 5, 6, 8, 9];
    assert_eq!(engine.tokenize("<e>").expect("any text"), [bos, begun, close]);
    assert_eq!(engine.tokenize_with_control("<e>").expect("any text"), [bos, control]);
    assert_eq!(engine.tokenize(" <é").expect("any text"), [bos, space, open, unknown, unknown]);
    assert_eq!(engine.tokenize("\n").expect("any text"), [bos, 10]);
    assert_eq!(engine.detokenize(&[10, open]), "\n<");
}

/// Some files call turn borders user-defined tokens, which are read in any text.
#[test]
fn a_turn_border_is_not_read_in_text_whatever_the_file_calls_it() {
    let mut kinds = vec![1; VOCABULARY as usize];
    kinds[END as usize] = 4;
    let tiny = Tiny::new()
        .without("tokenizer.ggml.eos_token_id")
        .set("tokenizer.ggml.token_type", Meta::Ints(kinds));
    for border in ["<|User|>", "<｜User｜>"] {
        let Meta::Texts(mut texts) = tiny.meta("tokenizer.ggml.tokens").clone() else { panic!("texts") };
        texts[END as usize] = border.to_owned();
        let engine = load(&tiny.clone().set("tokenizer.ggml.tokens", Meta::Texts(texts)).bytes())
            .expect("a sound file");
        assert!(!engine.tokenize(border).expect("any text").contains(&END));
        assert_eq!(engine.tokenize_with_control(border).expect("any text"), [END]);
        assert_eq!(engine.detokenize(&[END]), border);
    }
}

#[test]
fn pieces_that_cannot_work_are_refused_by_key() {
    let size = VOCABULARY as usize;
    let texts = |change: &dyn Fn(&mut Vec<String>)| {
        let mut texts: Vec<String> = (0..size).map(|id| format!("t{id}")).collect();
        change(&mut texts);
        pieces().set("tokenizer.ggml.tokens", Meta::Texts(texts))
    };
    let scores = |scores| pieces().set("tokenizer.ggml.scores", scores);
    let mut one_nan = vec![1.0; size];
    one_nan[7] = f32::NAN;
    let mut kinds = vec![1; size];
    kinds[3] = 77;
    let cases = [
        (scores(Meta::Floats(one_nan)), "token 7 is not a number"),
        (scores(Meta::Floats(vec![0.0; size - 1])), "257 elements for 258 tokens"),
        (scores(Meta::Texts(vec![String::new()])), "tokenizer.ggml.scores"),
        (pieces().without("tokenizer.ggml.scores"), "tokenizer.ggml.scores"),
        (pieces().set("tokenizer.ggml.token_type", Meta::Ints(kinds)), "token 3 is 77"),
        (pieces().set("tokenizer.ggml.token_type", Meta::U32(1)), "tokenizer.ggml.token_type"),
        (pieces().set("tokenizer.ggml.tokens", Meta::U32(1)), "tokenizer.ggml.tokens"),
        (texts(&|texts| texts[9] = "t4".to_owned()), "tokens 4 and 9 are both \"t4\""),
        (texts(&|texts| texts[9] = "x".repeat(1025)), "token 9 has 1025 bytes"),
        (pieces().set("tokenizer.ggml.unknown_token_id", Meta::U32(999)), "tokenizer.ggml.unknown_token_id"),
        (
            pieces().set("tokenizer.ggml.bos_token_id", Meta::Text("<s>".to_owned())),
            "tokenizer.ggml.bos_token_id",
        ),
        (pieces().set("tokenizer.ggml.add_bos_token", Meta::U32(1)), "tokenizer.ggml.add_bos_token"),
        (pieces().set("tokenizer.ggml.add_space_prefix", Meta::U32(1)), "tokenizer.ggml.add_space_prefix"),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512), magic in any::<bool>()) {
        let start: &[u8] = if magic { b"GGUF\x03\0\0\0" } else { b"" };
        prop_assert!(parse(&[start, bytes.as_slice()].concat()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is flipped in the header, loading ends in a model or an error.
    #[test]
    fn flipped_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        sentencepiece in any::<bool>(),
    ) {
        let mut bytes = if sentencepiece { pieces().bytes() } else { Tiny::new().bytes() };
        let header = bytes.len() - 60_000;
        for (place, value) in flips {
            let place = place.index(header);
            bytes[place] = value;
        }
        let _ = load(&bytes);
    }
}
