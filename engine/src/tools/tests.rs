//! Formats, parsers and grammars of calls.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ToolCall;

const FORMATS: [ToolFormat; 3] = [ToolFormat::Hermes, ToolFormat::Llama, ToolFormat::Mistral];

/// What came out: texts joined, and calls by name and arguments, in order.
fn outcome(pieces: Vec<ToolPiece>) -> Vec<Result<String, (String, Value)>> {
    let mut out: Vec<Result<String, (String, Value)>> = Vec::new();
    for piece in pieces {
        match (piece, out.last_mut()) {
            (ToolPiece::Text(text), Some(Ok(last))) => last.push_str(&text),
            (ToolPiece::Text(text), _) => out.push(Ok(text)),
            (ToolPiece::Call(ToolCall { name, arguments, .. }), _) => out.push(Err((name, arguments))),
        }
    }
    out
}

fn parse(format: ToolFormat, pieces: &[&str]) -> Vec<Result<String, (String, Value)>> {
    let mut parser = ToolCallParser::new(format);
    let mut all: Vec<ToolPiece> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    all.extend(parser.finish());
    outcome(all)
}

fn text(text: &str) -> Result<String, (String, Value)> {
    Ok(text.to_owned())
}

fn call(name: &str, arguments: Value) -> Result<String, (String, Value)> {
    Err((name.to_owned(), arguments))
}

#[test]
fn hermes_calls_stand_anywhere_and_text_around_them_stays() {
    let answer = "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>{\"}}\n</tool_call>\n\
                  <tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>\n Done.";
    let expected = [
        text("I look.\n"),
        call("f", json!({ "a": "</tool_call>{" })),
        call("g", json!({})),
        text("\n Done."),
    ];
    assert_eq!(parse(ToolFormat::Hermes, &[answer]), expected);
}

#[test]
fn what_only_looks_like_a_call_is_text() {
    for (format, answer) in [
        (ToolFormat::Hermes, "a <tool_call> b"),
        (ToolFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {]}</tool_call>"),
        (ToolFormat::Hermes, "<tool_call>{\"name\": \"f\"}</tool_call>"),
        (ToolFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\""),
        (ToolFormat::Hermes, "<tool_"),
        (ToolFormat::Llama, "{\"answer\": 42}"),
        (ToolFormat::Llama, "{\"name\": \"f\", \"parameters\": {"),
        (ToolFormat::Llama, "The call is {\"name\": \"f\", \"parameters\": {}}"),
        (ToolFormat::Llama, "<|python_tag|>print(1)"),
        (ToolFormat::Mistral, "[TOOL_CALLS] []"),
        (ToolFormat::Mistral, "[TOOL_CALLS] [{\"name\": 1, \"arguments\": {}}]"),
        (ToolFormat::Mistral, "[TOOL"),
        (ToolFormat::Mistral, "[TOOL_CALLS]{}"),
    ] {
        assert_eq!(parse(format, &[answer]), [text(answer)], "{format:?}");
    }
    // A true call after a broken one is found.
    let answer = "<tool_call>oops<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
    assert_eq!(parse(ToolFormat::Hermes, &[answer]), [text("<tool_call>oops"), call("f", json!({}))]);
}

#[test]
fn llama_calls_are_the_whole_answer() {
    let two = "\n{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}\n";
    assert_eq!(parse(ToolFormat::Llama, &[two]), [call("f", json!({ "a": 1 })), call("g", json!({}))]);
    let tagged = "<|python_tag|>{\"name\": \"f\", \"parameters\": \"{\\\"a\\\": 1}\"}";
    assert_eq!(parse(ToolFormat::Llama, &[tagged]), [call("f", json!({ "a": 1 }))]);
    let followed = "{\"name\": \"f\", \"parameters\": {}} and so on";
    assert_eq!(parse(ToolFormat::Llama, &[followed]), [call("f", json!({})), text(" and so on")]);
}

#[test]
fn mistral_calls_come_as_a_list_with_ids() {
    let answer = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": [1]}, \"id\": \"abc123def\"}, {\"name\": \"g\", \"arguments\": {}}]";
    let mut parser = ToolCallParser::new(ToolFormat::Mistral);
    let pieces = parser.push(answer);
    let id = |id: Option<&str>| id.map(str::to_owned);
    let expected = [
        ToolCall { id: id(Some("abc123def")), name: "f".to_owned(), arguments: json!({ "a": [1] }) },
        ToolCall { id: None, name: "g".to_owned(), arguments: json!({}) },
    ];
    assert_eq!(pieces, expected.map(ToolPiece::Call));
    assert_eq!(parser.finish(), []);
}

/// A reader waits for nothing but what may be a call.
#[test]
fn text_is_not_held_back_longer_than_needed() {
    let mut parser = ToolCallParser::new(ToolFormat::Hermes);
    assert_eq!(parser.push("Hello <"), [ToolPiece::Text("Hello ".to_owned())]);
    assert_eq!(parser.push("tool"), []);
    assert_eq!(parser.push("box> <tool_call"), [ToolPiece::Text("<toolbox> ".to_owned())]);
    assert_eq!(parser.push(">{"), []);
    assert_eq!(parser.finish(), [ToolPiece::Text("<tool_call>".to_owned()), ToolPiece::Text("{".to_owned())]);
    let mut parser = ToolCallParser::new(ToolFormat::Llama);
    assert_eq!(parser.push("Hi"), [ToolPiece::Text("Hi".to_owned())]);
    assert_eq!(parser.push("{"), [ToolPiece::Text("{".to_owned())]);
}

#[test]
fn white_space_alone_is_an_answer() {
    for format in FORMATS {
        assert_eq!(parse(format, &[" ", "\n"]), [text(" \n")], "{format:?}");
        assert_eq!(parse(format, &[]), []);
    }
}

#[test]
fn formats_are_known_by_their_templates() {
    let detect = ToolFormat::detect;
    assert_eq!(detect("{% if tools %}<tools></tools> <tool_call>{% endif %}"), Some(ToolFormat::Hermes));
    assert_eq!(detect("{% if tools %}[AVAILABLE_TOOLS][TOOL_CALLS]{% endif %}"), Some(ToolFormat::Mistral));
    assert_eq!(
        detect("{% if tools %}Environment: ipython {\"name\": n, \"parameters\": p}"),
        Some(ToolFormat::Llama)
    );
    assert_eq!(detect("{% for m in messages %}{{ m.content }}{% endfor %}"), None);
    assert_eq!(detect("{% if tools %}{{ tools | tojson }}{% endif %}"), None);
    assert_eq!(detect("{% if tools %}<tool_call><function=f>{% endif %}"), None);
}

#[test]
fn malformed_tools_are_refused_by_place() {
    let function = |value: Value| json!({ "type": "function", "function": value });
    for (tool, reason) in [
        (json!("f"), "tools[0].type"),
        (json!({ "type": "retrieval" }), "tools[0].type"),
        (json!({ "type": "function" }), "tools[0].function must"),
        (function(json!({})), "tools[0].function.name"),
        (function(json!({ "name": "a b" })), "tools[0].function.name"),
        (function(json!({ "name": "" })), "tools[0].function.name"),
        (function(json!({ "name": "f", "parameters": [] })), "tools[0].function.parameters"),
    ] {
        let error = check(&[tool]).expect_err("malformed").to_string();
        assert!(error.contains(reason), "{error}");
    }
    let twice = vec![function(json!({ "name": "f" })); 2];
    assert!(check(&twice).expect_err("ambiguous").to_string().contains("two functions"));
    assert!(check(&vec![json!({}); 200]).expect_err("many").to_string().contains("at most 128"));
}

proptest! {
    /// However an answer is cut, the same comes out, and nothing but white space and calls is lost.
    #[test]
    fn cuts_do_not_matter(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<tool", "[TOOL_CALLS]", "[", "]", "{", "}", "\"", "\\", ";", " ", "\n", "é", "text",
            "<|python_tag|>", "<|python", "{\"name\":\"f\",\"arguments\":{\"a\":\"é}\"}}",
            "[{\"name\":\"g\",\"arguments\":{}}]", "{\"name\":\"h\",\"parameters\":{}}", "{\"a\":1}",
        ]), 0..10),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let answer = parts.concat();
        let mut borders: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
        borders.retain(|border| answer.is_char_boundary(*border));
        borders.extend([0, answer.len()]);
        borders.sort_unstable();
        let pieces: Vec<&str> = borders.windows(2).map(|pair| &answer[pair[0]..pair[1]]).collect();
        for format in FORMATS {
            let whole = parse(format, &[&answer]);
            prop_assert_eq!(&whole, &parse(format, &pieces), "{:?}", format);
            if whole.iter().all(Result::is_ok) {
                let texts: String = whole.into_iter().filter_map(Result::ok).collect();
                prop_assert_eq!(&texts, &answer, "{:?}", format);
            }
        }
    }
}
