//! What is accepted, and that every answer under it is as asked for, whatever the choices.

use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::TOKENIZER;
use super::simulation::{Answer, Choice, Noise, answer, compiled, pick, settled};
use crate::constraint::{ConstraintError, Grammar, Next};
use crate::{FinishReason, ToolCallParser, ToolChoice, ToolFormat, ToolGrammar, ToolPiece};

/// Answers by many choices; those that end within `max_tokens`.
fn answers(grammar: &Grammar, max_tokens: usize) -> Vec<Answer> {
    let grammar = compiled(grammar);
    let choices = [Choice::Any, Choice::Short, Choice::Greedy];
    let all = choices.into_iter().flat_map(|choice| (0..12).map(move |seed| (choice, seed)));
    let answers =
        all.map(|(choice, seed)| answer(&grammar, choice, seed, max_tokens).expect("a grammar to follow"));
    let answers: Vec<Answer> = answers.filter(|answer| answer.reason == FinishReason::Stop).collect();
    assert!(answers.len() >= 6, "only {} of 36 answers ended", answers.len());
    answers
}

/// Every complete answer under the schema is JSON for which `holds`.
fn check(schema: Value, holds: impl Fn(&Value) -> bool) {
    for answer in answers(&Grammar::JsonSchema(schema.clone()), 300) {
        let value: Value = serde_json::from_str(&answer.text)
            .unwrap_or_else(|error| panic!("{schema}: {error}: {:?}", answer.text));
        assert!(holds(&value), "{schema}: {value}");
    }
}

fn length(value: &Value) -> usize {
    value.as_str().expect("a text").chars().count()
}

#[test]
fn an_object_has_its_properties_in_their_types_and_no_others() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Person",
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 2, "maxLength": 12, "description": "Full name" },
            "age": { "type": "integer", "minimum": 0, "maximum": 130 },
            "tags": { "type": "array", "items": { "enum": ["a", "b\"c", "é"] }, "minItems": 1, "maxItems": 3 },
            "note": { "type": ["string", "null"], "maxLength": 5 },
            "weight": { "type": "number", "exclusiveMinimum": 0, "maximum": 9.5 },
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    });
    let grammar = Grammar::JsonSchema(schema.clone());
    for Answer { text, .. } in answers(&grammar, 300) {
        let places = ["\"name\"", "\"age\"", "\"tags\""].map(|name| text.find(name));
        assert!(places.is_sorted() && places[0].is_some(), "in the schema's order: {text}");
    }
    check(schema, |person| {
        let known = ["name", "age", "tags", "note", "weight"];
        let tags = person["tags"].as_array().expect("an array");
        let object = person.as_object().expect("an object");
        object.keys().all(|key| known.contains(&key.as_str()))
            && (2..=12).contains(&length(&person["name"]))
            && person["age"].as_u64().is_some_and(|age| age <= 130)
            && (1..=3).contains(&tags.len())
            && tags.iter().all(|tag| ["a", "b\"c", "é"].iter().any(|known| tag == known))
            && object.get("note").is_none_or(|note| note.is_null() || length(note) <= 5)
            && object
                .get("weight")
                .is_none_or(|weight| weight.as_f64().is_some_and(|weight| weight > 0.0 && weight <= 9.5))
    });
}

#[test]
fn keywords_are_enforced_one_by_one() {
    check(json!({ "const": { "a": [1, null, "x"] } }), |value| *value == json!({ "a": [1, null, "x"] }));
    check(json!({ "enum": [1.5, true, "\u{7f}\n", [], {}] }), |value| {
        [json!(1.5), json!(true), json!("\u{7f}\n"), json!([]), json!({})].contains(value)
    });
    check(json!({ "type": "string", "pattern": "^(ab|cd){1,4}$" }), |value| {
        value
            .as_str()
            .is_some_and(|text| text.replace("ab", "").replace("cd", "").is_empty() && text.len() <= 8)
    });
    check(json!({ "type": "string", "format": "date" }), |value| length(value) == 10);
    check(json!({ "type": "integer", "minimum": -20, "maximum": 400, "multipleOf": 7 }), |value| {
        // -0 is an integer, too.
        value.as_f64().is_some_and(|number| number % 7.0 == 0.0 && (-20.0..=400.0).contains(&number))
    });
    let tuple = json!({ "type": "array", "prefixItems": [{ "type": "boolean" }, { "type": "null" }], "items": false, "minItems": 2 });
    check(tuple, |value| value.as_array().is_some_and(|items| items.len() == 2 && items[0].is_boolean()));
    let either = json!({
        "oneOf": [
            { "type": "object", "properties": { "kind": { "const": "x" }, "n": { "type": "integer", "maximum": 9, "minimum": 0 } }, "required": ["kind", "n"], "additionalProperties": false },
            { "type": "object", "properties": { "kind": { "const": "y" } }, "required": ["kind"], "additionalProperties": false },
        ]
    });
    check(either, |value| (value["kind"] == "x" && value["n"].is_u64()) || value["kind"] == "y");
    let both = json!({ "allOf": [
        { "type": "object", "properties": { "a": { "type": "boolean" } }, "required": ["a"] },
        { "$ref": "#/$defs/b" },
    ], "$defs": { "b": { "type": "object", "properties": { "b": { "type": "null" } }, "required": ["b"], "maxProperties": 2 } } });
    check(both, |value| value["a"].is_boolean() && value["b"].is_null());
}

#[test]
fn a_schema_may_refer_to_itself() {
    let schema = json!({
        "$ref": "#/$defs/node",
        "$defs": { "node": {
            "type": "object",
            "properties": { "leaf": { "type": "boolean" }, "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] } },
            "required": ["leaf", "next"],
            "additionalProperties": false,
        } },
    });
    check(schema, |value| {
        let mut node = value;
        while !node["next"].is_null() {
            node = &node["next"];
        }
        node["leaf"].is_boolean()
    });
}

#[test]
fn any_object_is_json() {
    let grammar = compiled(&Grammar::JsonObject);
    let mut complete = 0;
    for seed in 0..30 {
        let answer = answer(&grammar, Choice::Short, seed, 200).expect("a grammar to follow");
        assert!(answer.text.starts_with('{'), "{:?}", answer.text);
        if answer.reason == FinishReason::Stop {
            complete += 1;
            let value: Value = serde_json::from_str(&answer.text).expect("JSON");
            assert!(value.is_object());
        }
    }
    assert!(complete > 5, "only {complete} of 30 answers ended");
}

#[test]
fn a_regular_expression_matches_the_whole_answer() {
    let plate = |text: &str| {
        let (letters, digits) = text.split_at_checked(3)?;
        let rest = digits.strip_prefix('-')?;
        Some(
            letters.bytes().all(|byte| byte.is_ascii_uppercase())
                && rest.len() == 4
                && rest.parse::<u32>().is_ok(),
        )
    };
    for answer in answers(&Grammar::Regex("[A-Z]{3}-[0-9]{4}".to_owned()), 50) {
        assert_eq!(plate(&answer.text), Some(true), "{:?}", answer.text);
    }
    for answer in answers(&Grammar::Regex("^[ab]{3}$".to_owned()), 50) {
        assert!(
            answer.text.len() == 3 && answer.text.bytes().all(|byte| b"ab".contains(&byte)),
            "{:?}",
            answer.text
        );
    }
    for answer in answers(&Grammar::Regex(r#"(é|€|😀|/|"|\\){1,6}\n"#.to_owned()), 50) {
        let body = answer.text.strip_suffix('\n').expect("a line");
        assert!(body.chars().all(|character| "é€😀/\"\\".contains(character)), "{body:?}");
    }
}

/// A cut answer is reported as such, and begins as a complete one would.
#[test]
fn an_answer_that_is_cut_is_reported_as_cut() {
    let grammar = compiled(&Grammar::Regex("a{400}".to_owned()));
    let answer = answer(&grammar, Choice::Any, 5, 3).expect("a grammar to follow");
    assert_eq!((answer.reason, answer.tokens.len()), (FinishReason::Length, 3));
    assert!(answer.text.bytes().all(|byte| byte == b'a'));
}

#[test]
fn an_ending_token_is_allowed_only_when_the_answer_is_complete() {
    let grammar = compiled(&Grammar::Regex("(ab)+".to_owned()));
    let mut constraint = grammar.start();
    let (mut noise, mut text) = (Noise::new(9), Vec::new());
    for _ in 0..40 {
        let allowed = settled(&mut constraint).expect("a grammar to follow").expect("it never ends");
        let (endings, going): (Vec<u32>, Vec<u32>) =
            allowed.iter().partition(|token| TOKENIZER.ends(**token));
        assert_eq!(!endings.is_empty(), text.ends_with(b"b"), "{:?}", String::from_utf8_lossy(&text));
        let token = going[noise.below(going.len())];
        text.extend_from_slice(TOKENIZER.bytes(token));
        constraint.begin(&[token]).expect("an allowed token");
    }
}

#[test]
fn masks_depend_on_grammar_and_tokens_alone() {
    let grammar = compiled(&Grammar::JsonObject);
    let alone = answer(&grammar, Choice::Any, 3, 60).expect("a grammar to follow");
    // Another answer under the same grammar in between, and the same grammar compiled again.
    let other = answer(&grammar, Choice::Any, 4, 60).expect("a grammar to follow");
    assert_ne!(alone.tokens, other.tokens);
    assert_eq!(alone, answer(&grammar, Choice::Any, 3, 60).expect("a grammar to follow"));
    assert_eq!(
        alone,
        answer(&compiled(&Grammar::JsonObject), Choice::Any, 3, 60).expect("a grammar to follow")
    );
}

/// Several answers side by side, as in a batch: one whose mask is late sits out a step, the others go on, and each comes
/// out as it does alone.
#[test]
fn answers_side_by_side_are_as_alone() {
    let grammars = [
        compiled(&Grammar::JsonObject),
        compiled(&Grammar::Regex("([a-z]{1,8} ){5}".to_owned())),
        compiled(&Grammar::JsonSchema(
            json!({ "type": "array", "items": { "type": "integer" }, "minItems": 3 }),
        )),
    ];
    let alone: Vec<Vec<u32>> = (0..9)
        .map(|index| {
            answer(&grammars[index % 3], Choice::Any, index as u64, 30).expect("a grammar to follow").tokens
        })
        .collect();
    let mut batch: Vec<_> = (0..9)
        .map(|index| (grammars[index % 3].start(), Noise::new(index as u64), Vec::new(), false))
        .collect();
    while batch.iter().any(|(.., done)| !done) {
        let mut waited_for = None;
        for (index, (constraint, noise, tokens, done)) in
            batch.iter_mut().enumerate().filter(|(_, row)| !row.3)
        {
            let token = match constraint.poll() {
                Poll::Pending => {
                    waited_for.get_or_insert(index);
                    continue;
                }
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Ready(Ok(Next::Complete)) => None,
                Poll::Ready(Ok(Next::Choose { mask, .. })) => {
                    let allowed: Vec<u32> = mask.iter().collect();
                    Some(pick(&allowed, Choice::Any, noise)).filter(|token| !TOKENIZER.ends(*token))
                }
            };
            match token.filter(|_| tokens.len() < 30) {
                None => *done = true,
                Some(token) => {
                    tokens.push(token);
                    constraint.begin(&[token]).expect("an allowed token");
                }
            }
        }
        // With nothing to compute, a scheduler waits for one of them.
        if let Some(index) = waited_for {
            let _ = batch[index].0.wait(Duration::from_secs(1));
        }
    }
    for (alone, (_, _, tokens, _)) in alone.iter().zip(&batch) {
        assert_eq!(alone, tokens);
    }
}

/// Tokens handed over while the last ones are still being looked at are an error, not a race.
#[test]
fn tokens_out_of_turn_are_refused() {
    let mut constraint = compiled(&Grammar::JsonObject).start();
    assert_eq!(constraint.begin(&[1]), Err(ConstraintError::OutOfTurn));
    assert_eq!(settled(&mut constraint), Err(ConstraintError::OutOfTurn));
}

#[test]
fn a_fork_goes_its_own_way() {
    let grammar = compiled(&Grammar::Choice(vec!["yes, please".to_owned(), "no, thanks".to_owned()]));
    let mut first = grammar.start();
    let allowed = settled(&mut first).expect("a grammar to follow").expect("two choices");
    let mut second = first.fork().expect("its mask is there");
    let by = |start: u8| {
        *allowed
            .iter()
            .find(|token| TOKENIZER.bytes(**token).starts_with(&[start]))
            .expect("an allowed start")
    };
    let finish = |constraint: &mut crate::constraint::Constraint, token: u32| {
        let mut text = TOKENIZER.bytes(token).to_vec();
        constraint.begin(&[token]).expect("an allowed token");
        while let Some(allowed) = settled(constraint).expect("a grammar to follow") {
            text.extend_from_slice(TOKENIZER.bytes(allowed[0]));
            constraint.begin(&[allowed[0]]).expect("an allowed token");
        }
        String::from_utf8(text).expect("a choice")
    };
    assert_eq!(finish(&mut second, by(b'n')), "no, thanks");
    assert_eq!(finish(&mut first, by(b'y')), "yes, please");
    assert!(second.fork().is_some());
}

/// Forced tokens may be taken together; the end is the same.
#[test]
fn forced_tokens_lead_to_the_same_answer_at_once() {
    let text = "The quick brown fox jumps over the lazy dog.";
    let grammar = compiled(&Grammar::Choice(vec![text.to_owned()]));
    let mut constraint = grammar.start();
    let (mut tokens, mut steps) = (Vec::new(), 0);
    loop {
        let taken = match constraint.wait(Duration::from_secs(1)) {
            Poll::Pending => continue,
            Poll::Ready(Ok(Next::Complete)) => break,
            Poll::Ready(Ok(Next::Choose { mask, forced: [] })) => {
                vec![mask.iter().next().expect("never empty")]
            }
            Poll::Ready(Ok(Next::Choose { forced, .. })) => forced.to_vec(),
            Poll::Ready(Err(error)) => panic!("{error}"),
        };
        steps += 1;
        constraint.begin(&taken).expect("allowed tokens");
        tokens.extend(taken);
    }
    assert_eq!(TOKENIZER.decode(&tokens), text);
    assert!(steps < tokens.len(), "{steps} steps for {} tokens", tokens.len());
}

#[test]
fn a_token_outside_the_mask_is_an_error_and_stays_one() {
    let grammar = compiled(&Grammar::Regex("[0-9]{4}".to_owned()));
    let mut constraint = grammar.start();
    settled(&mut constraint).expect("a grammar to follow");
    let letter = TOKENIZER.encode("x").expect("any text")[0];
    assert_eq!(constraint.begin(&[letter]), Err(ConstraintError::Strayed { tokens: vec![letter] }));
    assert!(matches!(settled(&mut constraint), Err(ConstraintError::Strayed { .. })));
    assert!(matches!(constraint.begin(&[letter]), Err(ConstraintError::Strayed { .. })));
    assert!(constraint.fork().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any texts can be choices, whatever characters they hold, and only they come out.
    #[test]
    fn a_choice_gives_one_of_its_texts(texts in prop::collection::vec("[a-z\"\\\\/\n\u{7f}\u{0}é😀<>\\[\\]x41]{1,12}", 1..5), seed in any::<u64>()) {
        let grammar = compiled(&Grammar::Choice(texts.clone()));
        let answer = answer(&grammar, Choice::Any, seed, 60).expect("a grammar to follow");
        prop_assert_eq!(answer.reason, FinishReason::Stop);
        prop_assert!(texts.contains(&answer.text), "{:?} of {:?}", answer.text, texts);
    }
}

fn tools() -> Vec<Value> {
    let point = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/n" } }, "required": ["x"], "additionalProperties": false, "$defs": { "n": { "type": "integer", "minimum": 1, "maximum": 5 } } });
    vec![
        json!({ "type": "function", "function": { "name": "point", "parameters": point } }),
        json!({ "type": "function", "function": { "name": "now", "parameters": { "type": "object", "properties": {}, "additionalProperties": false } } }),
    ]
}

/// Calls that a grammar makes a model write are found by the parser, with arguments that are valid.
#[test]
fn required_calls_are_calls() {
    for format in [ToolFormat::Hermes, ToolFormat::Llama, ToolFormat::Mistral] {
        for choice in [ToolChoice::Required, ToolChoice::Named("point")] {
            let grammar = ToolGrammar::new(&tools(), choice, format).expect("sound tools");
            for answer in answers(&Grammar::Tools(grammar), 300) {
                let mut parser = ToolCallParser::new(format);
                let mut pieces = parser.push(&answer.text);
                pieces.extend(parser.finish());
                assert!(
                    !pieces.is_empty() && (choice == ToolChoice::Required || pieces.len() == 1),
                    "{pieces:?}"
                );
                for piece in pieces {
                    let ToolPiece::Call(call) = &piece else {
                        panic!("{format:?}: {piece:?} in {:?}", answer.text)
                    };
                    let point =
                        call.name == "point" && (1..=5).contains(&call.arguments["x"].as_i64().unwrap_or(0));
                    let now =
                        choice == ToolChoice::Required && call.name == "now" && call.arguments == json!({});
                    assert!(point || now, "{call:?}");
                }
            }
        }
    }
    assert!(ToolGrammar::new(&tools(), ToolChoice::Named("missing"), ToolFormat::Hermes).is_err());
    assert!(ToolGrammar::new(&[], ToolChoice::Required, ToolFormat::Hermes).is_err());
}
