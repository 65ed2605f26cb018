//! Answers of the real model.

use crate::common::{answer, engine, greedy, read};
use dividend_engine::{
    BackendKind, ChatMessage, Engine, EngineOptions, Event, FinishReason, GenerateRequest, Sampling,
    SubmitError,
};

#[derive(serde::Deserialize)]
struct Reference {
    user: String,
    prompt: Vec<u32>,
    text: String,
}

fn plain(engine: &Engine, text: &str) -> Vec<u32> {
    engine.tokenize(text).expect("any text")
}

fn ask(engine: &Engine, question: &str) -> Vec<u32> {
    engine.encode_chat(&[ChatMessage::new("user", question)]).expect("a plain conversation")
}

/// Weights and activations are rounded differently from llama.cpp's, so answers part where two words are
/// about as likely; where one is clearly ahead they agree.
#[test]
fn greedy_answers_begin_as_llama_cpps() {
    begin_as_llama_cpps(&engine(EngineOptions::default()), "packed", 8);
}

#[test]
fn candle_begins_alike() {
    let options = EngineOptions { backend: BackendKind::Candle, ..EngineOptions::default() };
    begin_as_llama_cpps(&engine(options), "candle", 3);
}

fn begin_as_llama_cpps(engine: &Engine, backend: &str, tokens: usize) {
    assert_eq!(engine.info().backend, backend);
    let table: Vec<Reference> =
        serde_json::from_str(include_str!("../data/smollm2_greedy.json")).expect("the table is JSON");
    for Reference { user, prompt, text } in table {
        assert_eq!(ask(engine, &user), prompt);
        let answer = answer(engine, greedy(&prompt, tokens));
        assert!(
            answer.text.len() > 2 && text.starts_with(&answer.text),
            "{:?} is not in {text:?}",
            answer.text
        );
    }
}

#[test]
fn answers_are_the_same_alone_and_in_company() {
    let engine = engine(EngineOptions { max_sequences: 3, prefill_chunk: 4, ..EngineOptions::default() });
    let seeded = |seed| GenerateRequest {
        sampling: Sampling { temperature: 0.9, top_p: 0.9, seed: Some(seed), ..Sampling::default() },
        ..greedy(&plain(&engine, "My favourite colour is"), 6)
    };
    let requests = [greedy(&plain(&engine, "The capital of France is the city of"), 3), seeded(1), seeded(2)];
    let alone = requests.clone().map(|request| answer(&engine, request));
    let company = requests.map(|request| engine.submit(request).expect("room for three")).map(read);
    assert_eq!(alone, company);
    assert!(alone[0].text.contains("Paris"), "{:?}", alone[0].text);
    assert_ne!(alone[1].text, alone[2].text, "another seed, another answer");
    let stats = engine.stats();
    assert_eq!((stats.finished, stats.failed, stats.queued, stats.active), (6, 0, 0, 0));
}

#[test]
fn an_answer_ends_at_its_limit_or_before_its_stop_string() {
    let engine = engine(EngineOptions::default());
    let prompt = plain(&engine, "One, two, three, four,");
    let full = answer(&engine, greedy(&prompt, 14));
    assert_eq!((full.reason, full.usage.completion_tokens), (FinishReason::Length, 14));
    // The stop string spans several tokens and begins in the middle of the answer.
    let middle = full.text.char_indices().nth(full.text.chars().count() / 2).expect("a long answer").0;
    let stop: String = full.text[middle..].chars().take(6).collect();
    let cut = full.text.find(&stop).expect("taken from it");
    let stops = vec!["never".to_owned(), stop];
    let stopped = answer(&engine, GenerateRequest { stop: stops, ..greedy(&prompt, 14) });
    assert_eq!((stopped.text.as_str(), stopped.reason), (&full.text[..cut], FinishReason::Stop));
    assert!(stopped.usage.completion_tokens < 14);
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_the_figures() {
    let engine = engine(EngineOptions { context_cap: Some(16), ..EngineOptions::default() });
    let error = engine.submit(greedy(&[5; 12], 5)).expect_err("17 tokens in 16");
    assert_eq!(error, SubmitError::PromptTooLong { prompt_tokens: 12, max_tokens: 5, context_length: 16 });
    assert_eq!(answer(&engine, greedy(&[5; 12], 4)).usage.prompt_tokens, 12);
}

#[tokio::test]
async fn a_reader_that_leaves_makes_room_and_the_others_go_on() {
    let options = EngineOptions { max_sequences: 1, queue: 1, ..EngineOptions::default() };
    let engine = tokio::task::spawn_blocking(|| engine(options)).await.expect("loads");
    let prompt = plain(&engine, "Once upon a time");
    let mut first = engine.submit(greedy(&prompt, 500)).expect("room for one");
    while !matches!(first.next().await, Some(Event::Token { .. })) {}
    let mut second = engine.submit(greedy(&prompt, 2)).expect("room for one to wait");
    let refused = engine.submit(greedy(&prompt, 2)).expect_err("no room for two to wait");
    assert_eq!(refused, SubmitError::QueueFull { limit: 1 });
    drop(first);
    let mut last = None;
    while let Some(event) = second.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Finished { .. })), "{last:?}");
    let stats = engine.stats();
    assert_eq!((stats.cancelled, stats.finished), (1, 1));
}
