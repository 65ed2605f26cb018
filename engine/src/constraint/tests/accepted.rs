//! What is accepted, and that every answer under it is as asked for.

use serde_json::{Value, json};

use super::simulation::{Choice, answer, compiled};
use crate::FinishReason;
use crate::constraint::Grammar;

#[test]
fn a_schema_of_a_person() {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string", "maxLength": 12 }, "age": { "type": "integer", "minimum": 0, "maximum": 130 } },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let grammar = compiled(&Grammar::JsonSchema(schema));
    for seed in 0..10 {
        let answer = answer(&grammar, Choice::Any, seed, 200).expect("a simple grammar");
        assert_eq!(answer.reason, FinishReason::Stop);
        let value: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert!(value["name"].as_str().is_some_and(|name| name.chars().count() <= 12), "{value}");
        assert!(value["age"].as_u64().is_some_and(|age| age <= 130), "{value}");
    }
}
