//! Making a model call a tool.

use serde_json::{Map, Value, json};

use super::{ToolFormat, check, function};
use crate::EngineError;

/// Which tools an answer must call. (OpenAI's `auto` and `none` need no grammar.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    /// One tool or more, whichever.
    Required,
    /// This one, once.
    Named(&'a str),
}

/// Calls of tools in a model's format, with arguments that are valid under the tools' schemas: for
/// [`crate::Grammar::Tools`].
#[derive(Debug, Clone, PartialEq)]
pub struct ToolGrammar {
    pub(crate) before: String,
    /// Empty if no second call may follow.
    pub(crate) between: String,
    pub(crate) after: String,
    pub(crate) schema: Value,
}

/// Members whose values are data, not schemas.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

impl ToolGrammar {
    /// The grammar of an answer that calls what `choice` says of `tools`.
    pub fn new(tools: &[Value], choice: ToolChoice<'_>, format: ToolFormat) -> Result<Self, EngineError> {
        check(tools)?;
        let mut functions = Vec::new();
        for (index, tool) in tools.iter().enumerate() {
            functions.push(function(tool, index)?);
        }
        if let ToolChoice::Named(wanted) = choice {
            functions.retain(|(name, _)| *name == wanted);
            if functions.is_empty() {
                return Err(EngineError::Tools(format!(
                    "tool_choice names {wanted:?}, which is not among the tools"
                )));
            }
        }
        if functions.is_empty() {
            return Err(EngineError::Tools("tool_choice requires a call, but there are no tools".to_owned()));
        }
        let several = choice == ToolChoice::Required;
        let list = format == ToolFormat::Mistral;
        let place = if list { "#/items" } else { "#" };
        let calls: Vec<Value> = functions
            .iter()
            .enumerate()
            .map(|(index, (name, schema))| {
                let place = format!("{place}/anyOf/{index}/properties/{}", format.arguments());
                call(name, *schema, format, &place)
            })
            .collect();
        let one = json!({ "anyOf": calls });
        let text = |text: &str| text.to_owned();
        let (before, between, after, schema) = match format {
            ToolFormat::Hermes => ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>", one),
            ToolFormat::Llama => ("", "; ", "", one),
            ToolFormat::Mistral if several => {
                ("[TOOL_CALLS]", "", "", json!({ "type": "array", "items": one, "minItems": 1 }))
            }
            ToolFormat::Mistral => {
                let schema = json!({ "type": "array", "items": one, "minItems": 1, "maxItems": 1 });
                ("[TOOL_CALLS]", "", "", schema)
            }
        };
        let between = if several { between } else { "" };
        Ok(Self { before: text(before), between: text(between), after: text(after), schema })
    }
}

/// The schema of a call of one function, whose parameters' schema will stand at `place`.
fn call(name: &str, parameters: Option<&Value>, format: ToolFormat, place: &str) -> Value {
    let mut arguments = parameters.map_or_else(|| json!({}), |schema| moved(schema, place));
    if let Value::Object(members) = &mut arguments {
        members.entry("type").or_insert_with(|| "object".into());
    }
    let mut properties = Map::new();
    properties.insert("name".to_owned(), json!({ "const": name }));
    properties.insert(format.arguments().to_owned(), arguments);
    json!({
        "type": "object",
        "properties": properties,
        "required": ["name", format.arguments()],
        "additionalProperties": false,
    })
}

/// `schema` with its references leading to where it stands now.
fn moved(schema: &Value, place: &str) -> Value {
    match schema {
        Value::Object(members) => {
            let move_member = |(name, member): (&String, &Value)| {
                let moved = match (name.as_str(), member) {
                    ("$ref", Value::String(reference)) => match reference.strip_prefix('#') {
                        Some(path) => format!("{place}{path}").into(),
                        None => member.clone(),
                    },
                    (data, _) if DATA.contains(&data) => member.clone(),
                    _ => moved(member, place),
                };
                (name.clone(), moved)
            };
            // A draft that the tool names holds for the whole, which knows them all.
            members.iter().filter(|(name, _)| *name != "$schema").map(move_member).collect()
        }
        Value::Array(items) => items.iter().map(|item| moved(item, place)).collect(),
        other => other.clone(),
    }
}
