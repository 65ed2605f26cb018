//! Tools: how models call them, finding the calls in an answer, and making a model write one.

mod format;
mod grammar;
mod json;
mod parser;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::EngineError;
pub use format::ToolFormat;
pub use grammar::{ToolChoice, ToolGrammar};
pub use parser::{ToolCallParser, ToolPiece};

/// Most tools of one conversation (OpenAI's limit), and the length of a name.
const MAX_TOOLS: usize = 128;
const MAX_NAME: usize = 64;

/// Refuses tools that are not as OpenAI describes them.
pub(crate) fn check(tools: &[Value]) -> Result<(), EngineError> {
    if tools.len() > MAX_TOOLS {
        return Err(EngineError::Tools(format!(
            "{} are given; at most {MAX_TOOLS} are accepted",
            tools.len()
        )));
    }
    let mut names = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let name = function(tool, index)?.0;
        if names.contains(&name) {
            return Err(EngineError::Tools(format!("two functions are named {name:?}")));
        }
        names.push(name);
    }
    Ok(())
}

/// A tool's name and the schema of its parameters, if it says one.
fn function(tool: &Value, index: usize) -> Result<(&str, Option<&Value>), EngineError> {
    let wrong = |what: &str| Err(EngineError::Tools(format!("tools[{index}]{what}")));
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return wrong(".type must be \"function\"");
    }
    let Some(function) = tool.get("function").and_then(Value::as_object) else {
        return wrong(".function must be an object with the function's name");
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let Some(name) = function.get("name").and_then(Value::as_str) else {
        return wrong(".function.name must be a text");
    };
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
        return wrong(".function.name must be 1 to 64 of the characters a-z, A-Z, 0-9, _ and -");
    }
    match function.get("parameters") {
        None | Some(Value::Null) => Ok((name, None)),
        Some(schema @ Value::Object(_)) => Ok((name, Some(schema))),
        Some(_) => wrong(".function.parameters must be a JSON Schema"),
    }
}
