//! What is refused, by name, in bounded time and memory.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::CONSTRAINTS;
use super::simulation::{Choice, answer};
use crate::constraint::{ConstraintError, Grammar, GrammarError};

fn compile(schema: Value) -> Result<(), GrammarError> {
    CONSTRAINTS.compile(&Grammar::JsonSchema(schema)).map(|_| ())
}

fn refusal(schema: Value) -> String {
    let text = schema.to_string();
    compile(schema).expect_err(&text[..text.len().min(300)]).to_string()
}

fn regex(regex: &str) -> Result<(), GrammarError> {
    CONSTRAINTS.compile(&Grammar::Regex(regex.to_owned())).map(|_| ())
}

#[test]
fn a_keyword_that_cannot_be_enforced_is_refused_by_name_and_place() {
    let table = [
        ("not", json!({ "type": "string" })),
        ("if", json!({ "minimum": 3 })),
        ("uniqueItems", json!(true)),
        ("contains", json!({})),
        ("propertyNames", json!({})),
        ("dependentRequired", json!({})),
        ("unevaluatedProperties", json!(false)),
        ("nullable", json!(true)),
        ("x-guidance", json!({ "lenient": true })),
        ("$dynamicRef", json!("#")),
        ("$schema", json!("http://json-schema.org/draft-04/schema#")),
        ("minLenght", json!(3)),
    ];
    for (keyword, value) in table {
        let schema = json!({ "type": "object", "properties": { "a": { "items": { keyword: value } } } });
        let error = refusal(schema);
        assert!(error.contains("#/properties/a/items") && error.contains(keyword), "{keyword}: {error}");
    }
    assert!(refusal(json!({ "x-guidance": { "lenient": true } })).contains("x-guidance"));
}

#[test]
fn values_that_cannot_be_enforced_are_refused_with_the_reason() {
    let table = [
        (json!({ "type": "string", "format": "postcode" }), "postcode"),
        (json!({ "type": "integer", "format": "date" }), "without type string"),
        (json!({ "type": "string", "maxLength": -1 }), "maxLength must be"),
        (json!({ "type": "array", "minItems": 1_000_000_000_000_u64 }), "minItems 1000000000000"),
        (json!({ "const": 9_007_199_254_740_993_u64 }), "2^53"),
        (json!({ "enum": [1, [9_007_199_254_740_993_u64]] }), "2^53"),
        (json!({ "enum": [] }), "at least one value"),
        (json!({ "type": "number", "multipleOf": 0 }), "above 0"),
        (json!({ "type": "string", "pattern": "(" }), "regex"),
        (json!({ "type": "string", "pattern": "(?=a)b" }), "look"),
        (json!({ "type": "strong" }), "strong"),
        (json!({ "type": 3 }), "type must be"),
        (json!({ "items": 3 }), "an object or a boolean"),
        (json!({ "properties": [] }), "an object of schemas"),
        (json!({ "anyOf": {} }), "an array of schemas"),
        (json!({ "additionalItems": false }), "additionalItems"),
        (json!({ "oneOf": [{ "minLength": 1 }, { "maxLength": 5 }] }), "oneOf"),
        (json!({ "type": "string", "minLength": 5, "maxLength": 3 }), "minLength"),
        (json!({ "type": "object", "required": ["a"], "properties": { "a": false } }), "unsatisfiable"),
        (json!(false), "allows nothing"),
        (json!("string"), "an object or a boolean"),
    ];
    for (schema, reason) in table {
        let text = schema.to_string();
        let error = refusal(schema);
        assert!(error.to_lowercase().contains(&reason.to_lowercase()), "{text}: {error}");
    }
}

#[test]
fn references_are_local_and_lead_to_schemas() {
    for reference in
        ["https://example.com/schema.json", "other.json", "#/$defs/missing", "#anchor", "#/$defs/a~1b", "#/"]
    {
        let error = refusal(json!({ "$ref": reference, "$defs": { "a/b": {} } }));
        assert!(error.contains(reference) && error.contains("$ref"), "{error}");
    }
    // What a reference finds in a place that is no schema's is held to the same rules.
    let hidden = json!({ "properties": { "a": { "$ref": "#/examples/0" } }, "examples": [{ "not": {} }] });
    assert!(refusal(hidden).contains("#/examples/0: not"));
}

#[test]
fn references_in_circles_end() {
    compile(json!({ "$ref": "#" })).expect_err("it stands for nothing");
    let ring = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
    compile(ring).expect_err("it stands for nothing");
    let combined = json!({
        "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }],
        "$defs": {
            "a": { "type": "object", "properties": { "x": { "$ref": "#/$defs/a" }, "y": { "$ref": "#/$defs/a" } } },
            "b": { "type": "object", "properties": { "x": { "$ref": "#/$defs/b" }, "y": { "$ref": "#/$defs/b" } } },
        },
    });
    assert!(refusal(combined).contains("leads back to itself"));
}

#[test]
fn schemas_that_would_multiply_are_refused_before_they_do() {
    // Each definition holds the next twice: 2^40 copies.
    let mut definitions = serde_json::Map::new();
    for level in 0..40 {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1), "type": "object" });
        let body = json!({ "type": "object", "properties": { "a": next, "b": next } });
        definitions.insert(format!("d{level}"), body);
    }
    definitions.insert("d40".to_owned(), json!({ "type": "object" }));
    let doubling = json!({ "$ref": "#/$defs/d0", "type": "object", "$defs": definitions });
    assert!(refusal(doubling).contains("multiplied out"));
    // Alternatives of alternatives: 30^6.
    let options: Vec<Value> = (0..30).map(|at_least| json!({ "minProperties": at_least })).collect();
    let product = json!({ "allOf": vec![json!({ "anyOf": options }); 6] });
    assert!(refusal(product).contains("multiplied out"));
}

#[test]
fn sizes_are_limited() {
    let mut deep = json!({});
    for _ in 0..70 {
        deep = json!({ "items": deep });
    }
    assert!(refusal(deep).contains("levels"));
    let wide: serde_json::Map<String, Value> = (0..6_000).map(|name| (name.to_string(), json!({}))).collect();
    assert!(refusal(json!({ "properties": wide })).contains("values"));
    assert!(refusal(json!({ "description": "x".repeat(200_000) })).contains("bytes of text"));
    let pattern = json!({ "type": "string", "pattern": "a".repeat(3_000) });
    assert!(refusal(pattern).contains("3000 bytes"));
    let counted: serde_json::Map<String, Value> =
        (0..100).map(|name| (name.to_string(), json!({}))).collect();
    assert!(refusal(json!({ "properties": counted, "maxProperties": 1 })).contains("100 properties"));
    assert!(matches!(regex(&"a".repeat(5_000)), Err(GrammarError::TooLarge { .. })));
    let choices = |texts: Vec<String>| CONSTRAINTS.compile(&Grammar::Choice(texts)).map(|_| ());
    assert!(matches!(choices(vec!["a".to_owned(); 2_000]), Err(GrammarError::TooLarge { .. })));
    assert!(matches!(choices(vec!["a".repeat(70_000)]), Err(GrammarError::TooLarge { .. })));
    assert!(matches!(choices(vec![]), Err(GrammarError::Invalid { .. })));
    assert!(matches!(choices(vec![String::new()]), Err(GrammarError::Invalid { .. })));
}

/// A reference to a reference to a reference …: as long a chain as a schema can hold is followed on the compiler's own
/// stack.
#[test]
fn a_long_chain_of_references_does_not_overflow_the_stack() {
    let mut definitions = serde_json::Map::new();
    for link in 0..1_200 {
        let next = json!({ "items": { "$ref": format!("#/$defs/d{}", link + 1) } });
        definitions.insert(format!("d{link}"), next);
    }
    definitions.insert("d1200".to_owned(), json!({ "type": "null" }));
    let _ = compile(json!({ "$ref": "#/$defs/d0", "$defs": definitions }));
}

/// Regular expressions that are exponential for some engines are compiled, or refused; followed to the end or to a
/// typed error.
#[test]
fn hostile_regular_expressions_end() {
    for hostile in [
        "(a|a)*b",
        "(a*)*b",
        "(a|aa)+$",
        "((a{1000}){1000}){1000}",
        "(.{1,1000}x){1,1000}",
        "[ab]*a[ab]{24}",
        "(\\w{1,200}\\s?){200}",
        "\\p{L}{500}",
        "(?:(?:a?){100}){100}a{100}",
        "^anchored$",
        "(?=ahead)",
        "\\1",
        "[z-a]",
        "(",
        "a**",
        "/",
        "\\",
    ] {
        match CONSTRAINTS.compile(&Grammar::Regex(hostile.to_owned())) {
            Ok(grammar) => {
                let ended = answer(&grammar, Choice::Any, 1, 40);
                assert!(
                    matches!(ended, Ok(_) | Err(ConstraintError::TooComplex { .. })),
                    "{hostile}: {ended:?}"
                );
            }
            Err(error) => {
                let expected = matches!(error, GrammarError::Invalid { .. } | GrammarError::TooLarge { .. });
                assert!(expected, "{hostile}: {error}");
            }
        }
    }
    for large in ["((a{1000}){1000}){1000}", "(\\w{1,200}\\s?){200}"] {
        assert!(matches!(regex(large), Err(GrammarError::TooLarge { .. })), "{large:?}");
        let pattern = json!({ "type": "string", "pattern": large });
        assert!(matches!(compile(pattern), Err(GrammarError::TooLarge { .. })), "{large:?}");
    }
    for malformed in ["(", "\\", "[z-a]", "\\1", "(?=ahead)", ""] {
        assert!(matches!(regex(malformed), Err(GrammarError::Invalid { .. })), "{malformed:?}");
    }
}

#[test]
fn hostile_counts_end() {
    for schema in [
        json!({ "type": "string", "minLength": 10_000 }),
        json!({ "type": "string", "maxLength": 10_000 }),
        json!({ "type": "string", "minLength": 9_999, "maxLength": 10_000, "pattern": "^[a-z]+( [a-z]+)*$" }),
        json!({ "type": "array", "minItems": 10_000, "maxItems": 10_000, "items": { "type": "array", "minItems": 10_000 } }),
        json!({ "type": "object", "minProperties": 10_000 }),
        json!({ "type": "integer", "multipleOf": 9_007_199_254_740_991_u64 }),
        json!({ "type": "number", "multipleOf": 1e-300 }),
        json!({ "type": "number", "minimum": 1e-300, "maximum": 1.7e-299 }),
        json!({ "type": "number", "minimum": -9.123_456_789, "maximum": 8_765_432.109_876_5 }),
    ] {
        match CONSTRAINTS.compile(&Grammar::JsonSchema(schema.clone())) {
            Ok(grammar) => {
                let ended = answer(&grammar, Choice::Any, 1, 40);
                assert!(
                    matches!(ended, Ok(_) | Err(ConstraintError::TooComplex { .. })),
                    "{schema}: {ended:?}"
                );
            }
            Err(error) => assert!(matches!(error, GrammarError::Invalid { .. }), "{schema}: {error}"),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let keyword = prop::sample::select(vec![
        "type",
        "items",
        "properties",
        "anyOf",
        "allOf",
        "oneOf",
        "$ref",
        "enum",
        "const",
        "required",
        "minimum",
        "maxItems",
        "pattern",
        "additionalProperties",
        "$defs",
        "a",
        "prefixItems",
        "patternProperties",
        "format",
    ]);
    let text = prop::sample::select(vec![
        "string",
        "object",
        "array",
        "number",
        "#",
        "#/$defs/a",
        "#/properties/a",
        "^a+$",
        "(",
        "date",
        "é",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keyword.clone(), inner), 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands where a schema should: compiled, or refused, never a crash; and what is compiled can be followed.
    #[test]
    fn any_value_is_compiled_or_refused(schema in any_json(), seed in any::<u64>()) {
        if let Ok(grammar) = CONSTRAINTS.compile(&Grammar::JsonSchema(schema)) {
            let _ = answer(&grammar, Choice::Short, seed, 30);
        }
    }
}
