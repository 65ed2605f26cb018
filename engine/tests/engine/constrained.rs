//! Answers of a given form, from the real model.

use std::sync::Arc;

use dividend_engine::{BackendKind, Engine, EngineOptions, FinishReason, GenerateRequest, Grammar, Sampling};
use serde_json::{Value, json};

use crate::common::{Answer, answer, engine, greedy, read};

fn person() -> Grammar {
    Grammar::JsonSchema(json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 130 },
            "likes": { "type": "array", "items": { "enum": ["tea", "coffee"] }, "maxItems": 2 },
        },
        "required": ["name", "age", "likes"],
        "additionalProperties": false,
    }))
}

fn asked(engine: &Engine, grammar: &Grammar, sampling: Sampling) -> GenerateRequest {
    let prompt = engine.tokenize("Describe a person:").expect("any text");
    let grammar = Some(engine.compile_grammar(grammar).expect("a sound grammar"));
    GenerateRequest { grammar, sampling, ..GenerateRequest::new(prompt, 120) }
}

fn check_person(answer: &Answer) {
    assert_eq!(answer.reason, FinishReason::Stop, "{}", answer.text);
    let person: Value = serde_json::from_str(&answer.text).expect(&answer.text);
    assert!(person["name"].as_str().is_some_and(|name| name.chars().count() <= 12), "{person}");
    assert!(person["age"].as_u64().is_some_and(|age| age <= 130), "{person}");
    assert!(person["likes"].as_array().is_some_and(|likes| likes.len() <= 2), "{person}");
}

#[test]
fn answers_have_the_form_at_any_temperature_beside_free_ones() {
    let engine = Arc::new(engine(EngineOptions::default()));
    let free = greedy(&engine.tokenize("Once upon a time").expect("any text"), 60);
    let alone = answer(&engine, free.clone());
    let beside = engine.submit(free).expect("room");
    let hot = |seed| Sampling { temperature: 1.6, seed: Some(seed), ..Sampling::default() };
    let answers: Vec<_> =
        (0..6).map(|seed| engine.submit(asked(&engine, &person(), hot(seed))).expect("room")).collect();
    let answers: Vec<Answer> = answers.into_iter().map(read).collect();
    answers.iter().for_each(check_person);
    assert_eq!(read(beside), alone, "who asks for no form is not touched");
    assert_eq!(answer(&engine, asked(&engine, &person(), hot(3))), answers[3], "seeds stay reproducible");
    assert_eq!(engine.stats().failed, 0);
}

#[test]
fn a_regex_and_a_choice_are_followed_on_either_backend() {
    for backend in [BackendKind::Packed, BackendKind::Candle] {
        let engine = engine(EngineOptions { backend, ..EngineOptions::default() });
        let date = Grammar::Regex(r"20\d\d-(0[1-9]|1[0-2])".to_owned());
        let date = answer(&engine, asked(&engine, &date, Sampling::GREEDY)).text;
        assert!(date.len() == 7 && date.starts_with("20") && date.as_bytes()[4] == b'-', "{date}");
        let choice = Grammar::Choice(vec!["certainly not".to_owned(), "perhaps".to_owned()]);
        let choice = answer(&engine, asked(&engine, &choice, Sampling::GREEDY)).text;
        assert!(["certainly not", "perhaps"].contains(&choice.as_str()), "{choice}");
    }
}

#[test]
fn an_answer_that_is_cut_says_so() {
    let engine = engine(EngineOptions::default());
    let cut = GenerateRequest { max_tokens: 5, ..asked(&engine, &person(), Sampling::GREEDY) };
    let answer = answer(&engine, cut);
    assert_eq!((answer.reason, answer.usage.completion_tokens), (FinishReason::Length, 5));
}

#[test]
fn choices_have_the_form_each() {
    let engine = engine(EngineOptions::default());
    let sampling = Sampling { temperature: 1.3, seed: Some(1), ..Sampling::default() };
    let mut generation =
        engine.submit(GenerateRequest { choices: 3, ..asked(&engine, &person(), sampling) }).expect("room");
    let mut texts = vec![String::new(); 3];
    while let Some(event) = generation.blocking_next() {
        match event {
            dividend_engine::Event::Token { choice, text, .. } => texts[choice] += &text,
            dividend_engine::Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    for text in texts {
        serde_json::from_str::<Value>(&text).expect(&text);
    }
}
