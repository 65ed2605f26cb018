//! How large a schema may become when it is compiled.
//!
//! Compiling intersects keywords that stand side by side (`allOf`, or `anyOf` beside `properties`, and so on): what they
//! refer to is copied into the place, and alternatives multiply. A schema of a kilobyte could fill the memory in this way.
//! So the size is estimated first, from above.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::GrammarError;
use super::keywords::resolve;

/// Values of all intersections together. One takes about 200 bytes.
const MAX_EXPANDED: u64 = 200_000;

/// Keywords that are intersected with what stands beside them.
const APPLICATORS: [&str; 6] = ["const", "enum", "allOf", "anyOf", "oneOf", "$ref"];
/// Keywords that assert something by themselves.
const OTHERS: [&str; 21] = [
    "type",
    "items",
    "additionalItems",
    "prefixItems",
    "minItems",
    "maxItems",
    "properties",
    "additionalProperties",
    "patternProperties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];

/// Refuses a schema whose intersections would grow too large, or refer to themselves.
pub(super) fn check(schema: &Value) -> Result<(), GrammarError> {
    let mut estimate = Estimate { root: schema, known: HashMap::new(), intersections: 0 };
    estimate.value(schema);
    match estimate.intersections {
        total if total <= MAX_EXPANDED => Ok(()),
        u64::MAX => Err(GrammarError::Invalid {
            reason: "a $ref that leads back to itself stands below keywords that are combined (allOf, or anyOf, oneOf, \
                     $ref, const or enum beside others)"
                .to_owned(),
        }),
        found => Err(GrammarError::TooLarge {
            what: "values when its combined keywords are multiplied out",
            found,
            limit: MAX_EXPANDED,
        }),
    }
}

/// An upper bound of what a part of a schema becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    /// Values, with every reference replaced by what it refers to; `u64::MAX` if that has no end.
    values: u64,
    /// Ways to choose among alternatives, at least 1.
    ways: u64,
}

struct Estimate<'a> {
    root: &'a Value,
    /// Sizes of the targets of references; `None` while one is being computed, so that a cycle is noticed.
    known: HashMap<&'a str, Option<Size>>,
    intersections: u64,
}

impl<'a> Estimate<'a> {
    /// The size of any value, and the sum of the intersections in it.
    fn value(&mut self, value: &'a Value) -> Size {
        match value {
            Value::Object(members) if intersects(members) => {
                let size = self.intersection(members);
                self.intersections = self.intersections.saturating_add(size.values);
                size
            }
            Value::Object(members) => {
                let alternatives = |name: &str| matches!(name, "anyOf" | "oneOf" | "enum");
                let mut size = Size { values: 1, ways: 1 };
                for (name, member) in members {
                    let part = match (name.as_str(), member) {
                        ("$ref", Value::String(reference)) => self.target(reference),
                        _ => self.value(member),
                    };
                    let more = if alternatives(name) { length(member) } else { 0 };
                    size = size.and(part, more);
                }
                size
            }
            Value::Array(items) => {
                let mut size = Size { values: 1, ways: 1 };
                for item in items {
                    let part = self.value(item);
                    size = size.and(part, 0);
                }
                size
            }
            _ => Size { values: 1, ways: 1 },
        }
    }

    /// Each part, once for every way to choose in the others.
    fn intersection(&mut self, members: &'a Map<String, Value>) -> Size {
        let mut parts = Vec::new();
        let mut own = Size { values: 1, ways: 1 };
        for (name, member) in members {
            match (name.as_str(), member) {
                ("$ref", Value::String(reference)) => parts.push(self.target(reference)),
                ("allOf", Value::Array(all)) => {
                    for member in all {
                        parts.push(self.value(member));
                    }
                }
                ("anyOf" | "oneOf" | "enum" | "const", _) => {
                    let part = self.value(member);
                    parts.push(Size { values: 1, ways: 1 }.and(part, length(member)));
                }
                _ => own = own.and(self.value(member), 0),
            }
        }
        parts.push(own);
        let ways = parts.iter().fold(1_u64, |ways, part| ways.saturating_mul(part.ways));
        let values = parts.iter().fold(0_u64, |sum, part| match part.values {
            u64::MAX => u64::MAX,
            values => sum.saturating_add(values.saturating_mul(ways / part.ways)).min(u64::MAX - 1).max(sum),
        });
        Size { values, ways }
    }

    fn target(&mut self, reference: &'a str) -> Size {
        const ENDLESS: Size = Size { values: u64::MAX, ways: 1 };
        match self.known.get(reference) {
            Some(size) => return size.unwrap_or(ENDLESS),
            None => self.known.insert(reference, None),
        };
        let size = resolve(self.root, reference).map_or(ENDLESS, |target| self.value(target));
        self.known.insert(reference, Some(size));
        size
    }
}

impl Size {
    /// With another part beside it, and `more` alternatives.
    fn and(self, other: Self, more: u64) -> Self {
        let values = match self.values.max(other.values) {
            u64::MAX => u64::MAX,
            _ => self.values.saturating_add(other.values).min(u64::MAX - 1),
        };
        Self { values, ways: self.ways.saturating_add(other.ways - 1).saturating_add(more) }
    }
}

/// Whether the keywords of a schema are intersected with each other.
fn intersects(members: &Map<String, Value>) -> bool {
    let applicators = APPLICATORS.iter().filter_map(|name| members.get_key_value(*name));
    let parts: u64 = applicators.map(|(name, value)| if name == "allOf" { length(value) } else { 1 }).sum();
    let others = u64::from(OTHERS.iter().any(|name| members.contains_key(*name)));
    parts + others > 1 || members.contains_key("patternProperties")
}

fn length(value: &Value) -> u64 {
    value.as_array().map_or(1, |items| items.len() as u64)
}
