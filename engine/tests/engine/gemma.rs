//! Gemma 3: a SentencePiece vocabulary and another family of weights, from text to text.

use crate::common::{cached, engine_of, greedy, read};
use dividend_engine::{ChatMessage, EngineOptions};

/// The file is of the model before it was taught to converse, and has no template.
#[test]
fn gemma_reads_and_writes() {
    let path = cached("gemma-3-270m-q4_k_m.gguf");
    let engine = engine_of(&path, EngineOptions { context_cap: Some(256), ..EngineOptions::default() });
    let info = engine.info();
    assert_eq!((info.architecture.as_str(), info.vocab_size, info.backend), ("gemma3", 262_144, "packed"));
    let go_on = |prompt: &str, tokens: usize| {
        let prompt = engine.tokenize(prompt).expect("any text");
        read(engine.submit(greedy(&prompt, tokens)).expect("a sound request")).text
    };
    assert_eq!(go_on("1, 2, 3, 4, 5,", 12), " 6, 7, 8, 9,");
    let answer = go_on("Q: What is the capital of France?\nA:", 8);
    assert!(answer.contains("Paris"), "{answer:?}");
    let error = engine.encode_chat(&[ChatMessage::new("user", "Hi")]).expect_err("no template").to_string();
    assert_eq!(error, "chat template: this model's file has none: send a plain prompt instead");
}
