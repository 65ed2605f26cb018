//! The form that answers must have: `response_format` (OpenAI) and `structured_outputs` (vLLM).

use dividend_engine::Grammar;
use serde::Deserialize;
use serde_json::Value;

use crate::backend::Form;
use crate::error::ApiError;

/// OpenAI's way: JSON, of a schema or any.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<NamedSchema>,
}

/// A schema is enforced whatever `strict` says; name and description are for the caller's own use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSchema {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    schema: Option<Value>,
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

impl ResponseFormat {
    /// `None` for plain text.
    pub(crate) fn form(self) -> Result<Option<Form>, ApiError> {
        let param = "response_format";
        let grammar = match (self.kind.as_str(), self.json_schema) {
            ("text", None) => return Ok(None),
            ("json_object", None) => Grammar::JsonObject,
            ("json_schema", Some(NamedSchema { schema: Some(schema), .. })) => Grammar::JsonSchema(schema),
            // As in OpenAI's API, a schema that is left out allows any object.
            ("json_schema", Some(NamedSchema { schema: None, .. })) => Grammar::JsonObject,
            ("json_schema", None) => {
                return Err(ApiError::invalid(param, "has type \"json_schema\" and no json_schema"));
            }
            ("text" | "json_object", Some(_)) => {
                let message = format!("has a json_schema, which type {:?} does not take", self.kind);
                return Err(ApiError::invalid(param, message));
            }
            (kind, _) => {
                let kind: String = kind.chars().take(64).collect();
                let message = format!("type {kind:?} is not served; text, json_object and json_schema are");
                return Err(ApiError::unsupported(param, message));
            }
        };
        Ok(Some(Form { grammar, param }))
    }
}

/// vLLM's way; exactly one of its fields is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StructuredOutputs {
    json: Option<Value>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
}

impl StructuredOutputs {
    pub(crate) fn form(self) -> Result<Form, ApiError> {
        let param = "structured_outputs";
        let grammar = match (self.json, self.regex, self.choice) {
            (Some(schema), None, None) => Grammar::JsonSchema(schema),
            (None, Some(regex), None) => Grammar::Regex(regex),
            (None, None, Some(choice)) => Grammar::Choice(choice),
            _ => return Err(ApiError::invalid(param, "must have exactly one of json, regex and choice")),
        };
        Ok(Form { grammar, param })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(json: &str) -> Result<Option<Grammar>, ApiError> {
        let format: ResponseFormat = serde_json::from_str(json).expect(json);
        format.form().map(|form| form.map(|form| form.grammar))
    }

    #[test]
    fn each_type_has_its_grammar() {
        assert_eq!(format(r#"{"type":"text"}"#).expect("taken"), None);
        assert_eq!(format(r#"{"type":"json_object"}"#).expect("taken"), Some(Grammar::JsonObject));
        let schema =
            r#"{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object"}}}"#;
        let expected = Grammar::JsonSchema(serde_json::json!({ "type": "object" }));
        assert_eq!(format(schema).expect("taken"), Some(expected));
        assert!(format(r#"{"type":"json_object","json_schema":{"name":"n"}}"#).is_err());
    }

    #[test]
    fn one_structure_is_taken() {
        let form = |json: &str| serde_json::from_str::<StructuredOutputs>(json).expect(json).form();
        assert_eq!(form(r#"{"regex":"a+"}"#).expect("taken").grammar, Grammar::Regex("a+".into()));
        assert_eq!(form(r#"{"choice":["a"]}"#).expect("taken").grammar, Grammar::Choice(vec!["a".into()]));
        assert!(form("{}").is_err());
    }
}
