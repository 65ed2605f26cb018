//! Which JSON Schemas are accepted: every keyword is enforced, or says nothing about validity, or is refused by name.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{GrammarError, patterns};

/// Most values (objects, arrays, texts, numbers, …) in a schema, and bytes of text.
pub(super) const MAX_VALUES: usize = 5_000;
const MAX_TEXT_BYTES: usize = 131_072;
const MAX_DEPTH: usize = 64;

/// Longest `pattern`, and highest `minItems`, `maxLength` and the like.
const MAX_PATTERN_BYTES: usize = 2_048;
const MAX_COUNT: u64 = 10_000;
/// Properties of an object that also bounds their number: the grammar grows with the square.
const MAX_COUNTED_PROPERTIES: usize = 64;
/// Integers from here on are not told apart.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// What is neither here nor handled by name below is refused.
const ANNOTATIONS: [&str; 12] = [
    "$comment",
    "$id",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "$anchor",
];

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Refuses a schema that is too large or holds what cannot be enforced.
pub(super) fn check(schema: &Value) -> Result<(), GrammarError> {
    check_size(schema)?;
    let mut walk = Walk { root: schema, references: vec![], seen: HashSet::new() };
    walk.schema(schema, "#")?;
    // A reference may point to where no schema is expected: what it finds there must pass as one.
    while let Some((target, at)) = walk.references.pop() {
        walk.schema(target, &at)?;
    }
    Ok(())
}

/// Where a reference inside `root` points to.
pub(super) fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    match reference {
        "#" => Some(root),
        _ if reference == "#/" || reference.contains(['~', '%']) => None,
        _ => root.pointer(reference.strip_prefix('#')?),
    }
}

fn check_size(schema: &Value) -> Result<(), GrammarError> {
    let (mut values, mut bytes) = (0, 0);
    let mut level = vec![schema];
    for _ in 0..MAX_DEPTH {
        let mut deeper = Vec::new();
        for value in level {
            values += 1;
            match value {
                Value::String(text) => bytes += text.len(),
                Value::Array(items) => deeper.extend(items),
                Value::Object(members) => {
                    bytes += members.keys().map(String::len).sum::<usize>();
                    deeper.extend(members.values());
                }
                _ => {}
            }
        }
        within("values in its schema", values + deeper.len(), MAX_VALUES)?;
        within("bytes of text in its schema", bytes, MAX_TEXT_BYTES)?;
        if deeper.is_empty() {
            return Ok(());
        }
        level = deeper;
    }
    within("levels in its schema", MAX_DEPTH + 1, MAX_DEPTH)
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), GrammarError> {
    if found <= limit {
        return Ok(());
    }
    Err(GrammarError::TooLarge { what, found: found as u64, limit: limit as u64 })
}

struct Walk<'a> {
    root: &'a Value,
    references: Vec<(&'a Value, String)>,
    seen: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, schema: &'a Value, at: &str) -> Result<(), GrammarError> {
        let keywords = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(keywords) => keywords,
            _ => return Err(malformed("a schema", at, "an object or a boolean")),
        };
        for (keyword, value) in keywords {
            self.keyword(keyword, value, at)?;
        }
        check_together(keywords, at)
    }

    fn keyword(&mut self, keyword: &'a str, value: &'a Value, at: &str) -> Result<(), GrammarError> {
        let inside = || format!("{at}/{keyword}");
        match keyword {
            "additionalProperties" | "additionalItems" => self.schema(value, &inside()),
            "items" if !value.is_array() => self.schema(value, &inside()),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" | "items" => {
                let members =
                    value.as_array().ok_or_else(|| malformed(keyword, at, "an array of schemas"))?;
                let mut members = members.iter().enumerate();
                members.try_for_each(|(index, member)| self.schema(member, &format!("{}/{index}", inside())))
            }
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                let members =
                    value.as_object().ok_or_else(|| malformed(keyword, at, "an object of schemas"))?;
                for (name, member) in members {
                    if keyword == "patternProperties" {
                        check_pattern(keyword, name, at)?;
                    }
                    self.schema(member, &format!("{}/{name}", inside()))?;
                }
                Ok(())
            }
            "$ref" => self.reference(value, at),
            "$schema" if at == "#" => Ok(()),
            _ if ANNOTATIONS.contains(&keyword) => Ok(()),
            _ => check_assertion(keyword, value, at),
        }
    }

    fn reference(&mut self, value: &'a Value, at: &str) -> Result<(), GrammarError> {
        let reference = value.as_str().ok_or_else(|| malformed("$ref", at, "a text"))?;
        let Some(target) = resolve(self.root, reference) else {
            let hint = "; a reference must be # or #/path to a schema in the same document, without ~ and %";
            return Err(unsupported(format!("$ref {reference:?}"), at, hint));
        };
        if self.seen.insert(reference) {
            self.references.push((target, reference.to_owned()));
        }
        Ok(())
    }
}

/// Keywords whose values are no schemas.
fn check_assertion(keyword: &str, value: &Value, at: &str) -> Result<(), GrammarError> {
    match keyword {
        "type" | "required" => {
            let texts = |items: &Vec<Value>| items.iter().all(Value::is_string);
            let is_type = keyword == "type" && value.is_string();
            let sound = is_type || value.as_array().is_some_and(texts);
            if sound { Ok(()) } else { Err(malformed(keyword, at, "texts")) }
        }
        "const" => check_exact(keyword, value, at),
        "enum" => match value.as_array() {
            Some(values) if !values.is_empty() => {
                values.iter().try_for_each(|value| check_exact(keyword, value, at))
            }
            _ => Err(malformed(keyword, at, "an array of at least one value")),
        },
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
            match value.as_u64() {
                None => Err(malformed(keyword, at, "a whole number, not negative")),
                Some(count) if count <= MAX_COUNT => Ok(()),
                Some(count) => {
                    let hint = format!("; at most {MAX_COUNT}");
                    Err(unsupported(format!("{keyword} {count}"), at, &hint))
                }
            }
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() => {
            check_exact(keyword, value, at)
        }
        "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => Ok(()),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            Err(malformed(keyword, at, "a number"))
        }
        "multipleOf" => match value.as_f64() {
            Some(step) if step > 0.0 => check_exact(keyword, value, at),
            _ => Err(malformed(keyword, at, "a number above 0")),
        },
        "pattern" => {
            let pattern = value.as_str().ok_or_else(|| malformed(keyword, at, "a text"))?;
            check_pattern(keyword, pattern, at)
        }
        "format" => match value.as_str() {
            Some(format) if FORMATS.contains(&format) => Ok(()),
            _ => Err(unsupported(format!("format {value}"), at, &format!("; supported are {FORMATS:?}"))),
        },
        _ => Err(unsupported(keyword.to_owned(), at, "")),
    }
}

fn check_pattern(keyword: &str, pattern: &str, at: &str) -> Result<(), GrammarError> {
    if pattern.len() <= MAX_PATTERN_BYTES {
        return patterns::check(pattern);
    }
    let found = format!("{keyword} of {} bytes", pattern.len());
    Err(unsupported(found, at, &format!("; at most {MAX_PATTERN_BYTES}")))
}

/// Numbers anywhere in `value` must be told apart from their neighbours.
fn check_exact(keyword: &str, value: &Value, at: &str) -> Result<(), GrammarError> {
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() >= MAX_EXACT) => {
            Err(unsupported(format!("{keyword} {number}"), at, "; numbers must be below 2^53"))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_exact(keyword, item, at)),
        Value::Object(members) => members.values().try_for_each(|member| check_exact(keyword, member, at)),
        _ => Ok(()),
    }
}

/// Keywords that work only in certain company.
fn check_together(keywords: &Map<String, Value>, at: &str) -> Result<(), GrammarError> {
    let has = |keyword: &str| keywords.contains_key(keyword);
    let items_listed = keywords.get("items").is_some_and(Value::is_array);
    if has("additionalItems") && !items_listed {
        return Err(unsupported("additionalItems".to_owned(), at, " without a list of items"));
    }
    if has("prefixItems") && items_listed {
        return Err(unsupported("items as a list".to_owned(), at, " beside prefixItems"));
    }
    if has("format") && !names_type(keywords, "string") {
        return Err(unsupported("format".to_owned(), at, " without type string"));
    }
    let counted = has("minProperties") || has("maxProperties");
    let properties = keywords.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    if counted && properties > MAX_COUNTED_PROPERTIES {
        let found = format!("minProperties or maxProperties with {properties} properties");
        return Err(unsupported(found, at, &format!("; at most {MAX_COUNTED_PROPERTIES}")));
    }
    Ok(())
}

fn names_type(keywords: &Map<String, Value>, wanted: &str) -> bool {
    match keywords.get("type") {
        Some(Value::String(name)) => name == wanted,
        Some(Value::Array(names)) => names.iter().any(|name| name == wanted),
        _ => false,
    }
}

fn unsupported(keyword: String, at: &str, hint: &str) -> GrammarError {
    GrammarError::Unsupported { keyword, at: at.to_owned(), hint: hint.to_owned() }
}

fn malformed(keyword: &str, at: &str, expected: &'static str) -> GrammarError {
    GrammarError::Malformed { keyword: keyword.to_owned(), at: at.to_owned(), expected }
}
