//! Several answers to one prompt, how likely their tokens were, and what ends or bends them.

use dividend_engine::{
    Engine, EngineOptions, Event, FinishReason, GenerateRequest, Sampling, SubmitError, TokenLogprobs, Usage,
};

use crate::common::{RealEngine, answer, engine, greedy};

#[derive(Default, Debug, PartialEq)]
struct Choice {
    text: String,
    tokens: Vec<u32>,
    usage: Usage,
}

fn load() -> RealEngine {
    engine(EngineOptions::default())
}

fn prompt(engine: &Engine) -> Vec<u32> {
    engine.tokenize("Three colours that I like are").expect("sound")
}

fn choices(engine: &Engine, request: GenerateRequest) -> Vec<Choice> {
    let mut found: Vec<Choice> = (0..request.choices).map(|_| Choice::default()).collect();
    let (mut generation, mut finished, mut prefilled) = (engine.submit(request).expect("sound"), 0, 0);
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Prefilled { tokens } => prefilled += tokens,
            Event::Token { choice, text, tokens, logprobs } => {
                found[choice].text += &text;
                assert_eq!(logprobs.len(), tokens);
                found[choice].tokens.extend(logprobs.iter().map(|token| token.chosen.token));
            }
            Event::Finished { choice, usage, .. } => {
                finished += 1;
                assert_eq!(usage.prompt_tokens, prefilled, "the prompt is told of once");
                found[choice].usage = usage;
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(finished, found.len());
    found
}

#[test]
fn choices_are_the_answers_of_the_seeds_that_follow() {
    let engine = &load();
    let seeded = |seed, choices| GenerateRequest {
        sampling: Sampling { temperature: 1.2, seed: Some(seed), ..Sampling::default() },
        choices,
        logprobs: Some(0),
        ..GenerateRequest::new(prompt(engine), 12)
    };
    let together = choices(engine, seeded(7, 3));
    for (seed, together) in (7..).zip(&together) {
        let alone = choices(engine, seeded(seed, 1)).remove(0);
        assert_eq!((&alone.text, &alone.tokens), (&together.text, &together.tokens));
        assert_eq!(together.usage.completion_tokens, together.tokens.len());
    }
    assert_ne!(together[0].text, together[1].text);
    assert_eq!(engine.stats().active, 0);
}

#[test]
fn more_choices_than_places_are_refused_and_so_are_none() {
    let engine = &load();
    for choices in [0, engine.stats().max_sequences + 1] {
        let error = engine.submit(GenerateRequest { choices, ..greedy(&[1], 1) }).expect_err("out of range");
        assert!(matches!(error, SubmitError::Invalid { field: "n", .. }), "{error}");
    }
}

#[test]
fn likelihoods_are_the_models_own_whatever_bends_the_choice() {
    let engine = &load();
    let request = GenerateRequest { logprobs: Some(3), ..greedy(&prompt(engine), 8) };
    let plain = tokens(engine, request.clone());
    for token in &plain {
        assert_eq!(token.top.len(), 3);
        assert_eq!(token.chosen, token.top[0], "greedy takes the likeliest");
        assert!(token.top.is_sorted_by(|left, right| left.logprob >= right.logprob));
        let mass: f64 = token.top.iter().map(|top| f64::from(top.logprob).exp()).sum();
        assert!(mass > 0.0 && mass <= 1.0 + 1e-6, "{mass}");
        assert_eq!(engine.detokenize(&[token.chosen.token]).as_bytes(), token.chosen.bytes);
    }
    // Forbid the first token: the second likeliest comes, and the likelihoods stay.
    let biased = Sampling { logit_bias: vec![(plain[0].chosen.token, -100.0)], ..Sampling::GREEDY };
    let bent = tokens(engine, GenerateRequest { sampling: biased, ..request });
    assert_eq!(bent[0].top, plain[0].top);
    assert_eq!(bent[0].chosen, plain[0].top[1]);
}

#[test]
fn a_stop_token_ends_the_answer_and_is_not_counted() {
    let engine = &load();
    let request = GenerateRequest { logprobs: Some(0), ..greedy(&prompt(engine), 8) };
    let plain = choices(engine, request.clone()).remove(0);
    let stop = plain.tokens[3];
    let before = plain.tokens.iter().position(|token| *token == stop).expect("sound");
    let found = answer(engine, GenerateRequest { stop_tokens: vec![stop], ..request });
    assert_eq!((found.reason, found.usage.completion_tokens), (FinishReason::Stop, before));
    assert_eq!(found.text, engine.detokenize(&plain.tokens[..before]));
}

#[test]
fn a_frequency_penalty_ends_repetition() {
    let engine = &load();
    let prompt = engine.tokenize("one one one one one one one one one one").expect("sound");
    let distinct = |frequency_penalty| {
        let sampling = Sampling { frequency_penalty, ..Sampling::GREEDY };
        let request =
            GenerateRequest { sampling, logprobs: Some(0), ..GenerateRequest::new(prompt.clone(), 16) };
        let mut tokens = choices(engine, request).remove(0).tokens;
        tokens.sort_unstable();
        tokens.dedup();
        tokens.len()
    };
    assert!(distinct(2.0) > distinct(0.0));
}

#[test]
fn a_prompt_that_was_computed_is_found_again() {
    let engine = &load();
    let text = "A long beginning that two requests share, word for word. ".repeat(6);
    let prompt = engine.tokenize(&text).expect("sound");
    let first = answer(engine, greedy(&prompt, 2));
    let second = answer(engine, greedy(&prompt, 2));
    assert_eq!(first.text, second.text);
    assert_eq!(first.usage.cached_tokens, 0);
    let cached = second.usage.cached_tokens;
    assert!(cached >= prompt.len() - 17 && cached < prompt.len(), "{cached} of {}", prompt.len());
}

#[test]
fn what_is_out_of_range_is_refused_by_its_name() {
    let engine = &load();
    let refuse = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = greedy(&[1], 1);
        change(&mut request);
        match engine.submit(request).expect_err("out of range") {
            SubmitError::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    let over = engine.info().vocab_size as u32;
    assert_eq!(refuse(&|request| request.sampling.min_p = 1.1), "min_p");
    assert_eq!(refuse(&|request| request.sampling.repetition_penalty = 0.0), "repetition_penalty");
    assert_eq!(refuse(&|request| request.sampling.presence_penalty = f32::NAN), "presence_penalty");
    assert_eq!(refuse(&|request| request.sampling.frequency_penalty = -2.1), "frequency_penalty");
    assert_eq!(refuse(&|request| request.sampling.logit_bias = vec![(over, 1.0)]), "logit_bias");
    assert_eq!(refuse(&|request| request.sampling.logit_bias = vec![(1, 101.0)]), "logit_bias");
    assert_eq!(refuse(&|request| request.sampling.logit_bias = vec![(1, 1.0), (1, 2.0)]), "logit_bias");
    assert_eq!(refuse(&|request| request.stop_tokens = vec![over]), "stop_token_ids");
    assert_eq!(refuse(&|request| request.logprobs = Some(21)), "top_logprobs");
}

fn tokens(engine: &Engine, request: GenerateRequest) -> Vec<TokenLogprobs> {
    let mut generation = engine.submit(request).expect("sound");
    let events = std::iter::from_fn(|| generation.blocking_next());
    events
        .flat_map(|event| if let Event::Token { logprobs, .. } = event { logprobs } else { Vec::new() })
        .collect()
}
