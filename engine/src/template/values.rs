//! A conversation as the values that a template reads, and keeping what users wrote from being read as control tokens.

use serde_json::{Map, Value, json};

use crate::tokenizer::ControlTokens;
use crate::{ChatMessage, ToolCall};

/// Words that templates compare with: they belong to the format, whoever writes them, and stay as they are.
const WORDS: [&str; 24] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "ipython",
    "type",
    "name",
    "description",
    "parameters",
    "properties",
    "required",
    "items",
    "enum",
    "strict",
    "arguments",
    "id",
    "string",
    "number",
    "integer",
    "boolean",
    "array",
    "object",
];

/// What a template is given as `messages`: what transformers' `apply_chat_template` would be called with.
pub(super) fn messages(messages: &[ChatMessage]) -> Value {
    messages.iter().map(message).collect()
}

fn message(message: &ChatMessage) -> Value {
    let ChatMessage { role, content, name, tool_calls, tool_call_id } = message;
    let mut members = Map::new();
    members.insert("role".to_owned(), role.as_str().into());
    members.insert("content".to_owned(), content.as_str().into());
    if let Some(name) = name {
        members.insert("name".to_owned(), name.as_str().into());
    }
    if !tool_calls.is_empty() {
        members.insert("tool_calls".to_owned(), tool_calls.iter().map(tool_call).collect());
    }
    if let Some(id) = tool_call_id {
        members.insert("tool_call_id".to_owned(), id.as_str().into());
    }
    members.into()
}

fn tool_call(call: &ToolCall) -> Value {
    let ToolCall { id, name, arguments } = call;
    let mut members = Map::new();
    if let Some(id) = id {
        members.insert("id".to_owned(), id.as_str().into());
    }
    members.insert("type".to_owned(), "function".into());
    members.insert("function".to_owned(), json!({ "name": name, "arguments": arguments }));
    members.into()
}

/// `value` with every text in it guarded, names of members too, but for the words of the format.
pub(super) fn guarded(value: &Value, control: &ControlTokens, mark: char) -> Value {
    let text = |text: &str| match text {
        word if WORDS.contains(&word) => word.to_owned(),
        other => control.guard(other, mark),
    };
    match value {
        Value::String(written) => text(written).into(),
        Value::Array(items) => items.iter().map(|item| guarded(item, control, mark)).collect(),
        Value::Object(members) => {
            // The names that `message` and `tool_call` gave are words of the format as well.
            let name = |name: &str| match name {
                "role" | "content" | "tool_calls" | "tool_call_id" => name.to_owned(),
                other => text(other),
            };
            members.iter().map(|(key, member)| (name(key), guarded(member, control, mark))).collect()
        }
        other => other.clone(),
    }
}

/// Whether `mark` occurs in a text of `value`.
pub(super) fn contains(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| contains(item, mark)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| name.contains(mark) || contains(member, mark))
        }
        _ => false,
    }
}
