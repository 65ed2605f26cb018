//! Tools: what a request says of them, and the calls in an answer.

use dividend_engine::{ToolCall, ToolCallParser, ToolFormat, ToolPiece};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::backend::ToolChoice;
use crate::error::ApiError;

/// `tool_choice`: a word, or the function to call.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "\"none\", \"auto\", \"required\" or {\"type\":\"function\",\"function\":{\"name\":…}}"
)]
pub(crate) enum WireChoice {
    Word(String),
    Function(WireFunctionChoice),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireFunctionChoice {
    #[serde(rename = "type")]
    kind: String,
    function: WireName,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireName {
    name: String,
}

impl WireChoice {
    pub(crate) fn choice(self) -> Result<ToolChoice, ApiError> {
        match self {
            Self::Word(word) => match word.as_str() {
                "none" => Ok(ToolChoice::None),
                "auto" => Ok(ToolChoice::Auto),
                "required" => Ok(ToolChoice::Required),
                word => {
                    let word: String = word.chars().take(64).collect();
                    let message = format!("{word:?} is not served; none, auto, required or a function are");
                    Err(ApiError::unsupported("tool_choice", message))
                }
            },
            Self::Function(choice) if choice.kind == "function" => {
                Ok(ToolChoice::Named(choice.function.name))
            }
            Self::Function(_) => {
                Err(ApiError::unsupported("tool_choice.type", "only \"function\" is served"))
            }
        }
    }
}

/// A call in an assistant's earlier message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireCall {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    function: WireFunction,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFunction {
    name: String,
    /// JSON as text.
    arguments: String,
}

impl WireCall {
    /// `param` is where it stands.
    pub(crate) fn into_call(self, param: &str) -> Result<ToolCall, ApiError> {
        if self.kind != "function" {
            return Err(ApiError::unsupported(format!("{param}.type"), "only \"function\" is served"));
        }
        let arguments = match self.function.arguments.trim() {
            // Some clients send nothing for no arguments.
            "" => Value::Object(Map::new()),
            text => serde_json::from_str(text).ok().filter(Value::is_object).ok_or_else(|| {
                ApiError::invalid(format!("{param}.function.arguments"), "must be a JSON object as text")
            })?,
        };
        Ok(ToolCall { id: Some(self.id), name: self.function.name, arguments })
    }
}

/// A part of a choice: text, or a call as OpenAI writes it.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Call(Value),
}

/// Finds the calls of tools in the answers of one call.
pub(crate) struct ToolReader {
    /// One for each choice; none if there are no tools.
    parsers: Vec<Option<ToolCallParser>>,
    /// Calls found in each choice.
    calls: Vec<usize>,
}

impl ToolReader {
    pub(crate) fn new(format: Option<ToolFormat>, choices: usize) -> Self {
        let parsers = (0..choices).map(|_| format.map(ToolCallParser::new)).collect();
        Self { parsers, calls: vec![0; choices] }
    }

    /// More text of a choice; the parts that it completes. `call` names the answer, for the ids.
    pub(crate) fn push(&mut self, call: &str, choice: usize, text: String) -> Vec<Part> {
        match &mut self.parsers[choice] {
            None => vec![Part::Text(text)],
            Some(parser) => {
                let pieces = parser.push(&text);
                self.parts(call, choice, pieces)
            }
        }
    }

    /// A choice has ended; what is left of it.
    pub(crate) fn finish(&mut self, call: &str, choice: usize) -> Vec<Part> {
        let pieces = self.parsers[choice].take().map(ToolCallParser::finish).unwrap_or_default();
        self.parts(call, choice, pieces)
    }

    /// Why a choice ended: OpenAI has a word of its own for one that calls.
    pub(crate) fn reason(&self, choice: usize, reason: &'static str) -> &'static str {
        if self.calls[choice] > 0 && reason == "stop" { "tool_calls" } else { reason }
    }

    fn parts(&mut self, call: &str, choice: usize, pieces: Vec<ToolPiece>) -> Vec<Part> {
        let part = |piece| match piece {
            ToolPiece::Text(text) => Part::Text(text),
            ToolPiece::Call(found) => {
                let index = self.calls[choice];
                self.calls[choice] += 1;
                let id = found.id.unwrap_or_else(|| format!("call_{call}_{choice}_{index}"));
                let function = json!({ "name": found.name, "arguments": found.arguments.to_string() });
                Part::Call(json!({ "index": index, "id": id, "type": "function", "function": function }))
            }
        };
        pieces.into_iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_numbered_and_named_and_text_passes() {
        let mut reader = ToolReader::new(Some(ToolFormat::Hermes), 2);
        let text = "Let me see. <tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        let mut parts = reader.push("0a", 1, text.to_owned());
        parts.extend(reader.finish("0a", 1));
        let call = json!({ "index": 0, "id": "call_0a_1_0", "type": "function",
            "function": { "name": "add", "arguments": "{\"a\":1}" } });
        assert_eq!(parts, [Part::Text("Let me see. ".to_owned()), Part::Call(call)]);
        assert_eq!((reader.reason(1, "stop"), reader.reason(0, "stop")), ("tool_calls", "stop"));
        assert_eq!(reader.reason(1, "length"), "length", "a cut answer says so");
        let mut plain = ToolReader::new(None, 1);
        assert_eq!(plain.push("0a", 0, text.to_owned()), [Part::Text(text.to_owned())]);
        assert_eq!(plain.finish("0a", 0), []);
    }

    #[test]
    fn choices_are_words_or_functions() {
        let choice = |json: &str| serde_json::from_str::<WireChoice>(json).expect(json).choice();
        assert_eq!(choice("\"required\"").expect("served"), ToolChoice::Required);
        let named = r#"{"type":"function","function":{"name":"add"}}"#;
        assert_eq!(choice(named).expect("served"), ToolChoice::Named("add".to_owned()));
        assert_eq!(choice("\"any\"").expect_err("refused").param().as_deref(), Some("tool_choice"));
    }

    #[test]
    fn arguments_are_objects() {
        let call = |arguments: &str| {
            let call =
                json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": arguments } });
            serde_json::from_value::<WireCall>(call)
                .expect("the shape")
                .into_call("messages[0].tool_calls[0]")
        };
        assert_eq!(call("{\"b\":1}").expect("an object").arguments, json!({ "b": 1 }));
        assert_eq!(call("").expect("nothing").arguments, json!({}));
        let error = call("[1]").expect_err("a list");
        assert_eq!(error.param().as_deref(), Some("messages[0].tool_calls[0].function.arguments"));
    }
}
