//! From what a request asks to a grammar that can be followed.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use super::error::brief;
use super::helper::Helper;
use super::{Constraint, GrammarError, expansion, keywords, patterns};
use crate::tools::ToolGrammar;

/// Longest time that a request waits for its grammar, and how many are compiled at a time. The limits on sizes and
/// fuel end a compilation, usually within milliseconds: this only bounds what is left of the worst.
const COMPILE_TIME: Duration = Duration::from_secs(5);
const COMPILED_AT_A_TIME: usize = 2;

/// Compiling recurses along a chain of references: a few kilobytes for each of up to `keywords::MAX_VALUES` values.
const STACK_BYTES: usize = 128 << 20;

const MAX_REGEX_BYTES: usize = 4_096;
const MAX_CHOICES: usize = 1_000;
const MAX_CHOICE_BYTES: usize = 65_536;

/// White space between the parts of a JSON answer: as one pleases, but not without end.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,40}";

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// JSON that is valid under this JSON Schema (draft 4 to 2020-12). Properties come in the schema's order. A keyword
    /// that cannot be enforced is refused.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// Text that matches this regular expression as a whole. The syntax is that of Rust's `regex` crate, without
    /// anchors and boundaries.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Calls of tools.
    Tools(ToolGrammar),
}

/// What is handed to `llguidance`.
enum Source {
    Schema(Value),
    Regex(String),
    Lark(String),
}

/// A grammar ready to be followed by any number of answers. Clones share it.
#[derive(Clone)]
pub struct CompiledGrammar {
    matcher: Arc<SharedMatcher>,
    helper: Helper,
}

/// The state in which every answer begins, for copying.
pub(super) struct SharedMatcher(Mutex<Box<Matcher>>);

impl SharedMatcher {
    /// A copy that shares no cache, so that what one answer costs never depends on another.
    pub(super) fn copy(&self) -> Box<Matcher> {
        Box::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).deep_clone())
    }
}

impl CompiledGrammar {
    /// Starts constraining one answer: its first mask is computed from now on. What that takes in memory is the answer's own,
    /// so it is to be done when the answer gets a place.
    pub(crate) fn start(&self) -> Constraint {
        Constraint::start(&self.matcher, &self.helper)
    }
}

impl PartialEq for CompiledGrammar {
    /// True for clones of the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.matcher, &other.matcher)
    }
}

impl std::fmt::Debug for CompiledGrammar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CompiledGrammar").finish_non_exhaustive()
    }
}

/// Refuses what is too large or not supported, before anything is compiled.
fn checked(grammar: &Grammar) -> Result<Source, GrammarError> {
    match grammar {
        Grammar::JsonSchema(schema) => schema_source(schema).map(Source::Schema),
        Grammar::JsonObject => schema_source(&json!({ "type": "object" })).map(Source::Schema),
        Grammar::Regex(regex) => check_regex(regex).map(|()| Source::Regex(regex.clone())),
        Grammar::Choice(texts) => choice(texts).map(Source::Lark),
        Grammar::Tools(calls) => {
            let schema = schema_source(&calls.schema)?;
            let [before, between, after] =
                [&calls.before, &calls.between, &calls.after].map(|text| lark_string(text));
            // More calls may follow, if the format has something to put between them.
            let more = if calls.between.is_empty() { String::new() } else { format!(" ({between} call)*") };
            Ok(Source::Lark(format!("start: {before} call{more} {after}\ncall: %json {schema}")))
        }
    }
}

/// The checked schema with the options under which it is compiled.
fn schema_source(schema: &Value) -> Result<Value, GrammarError> {
    keywords::check(schema)?;
    expansion::check(schema)?;
    let options = json!({ "whitespace_pattern": WHITE_SPACE });
    match schema {
        Value::Object(keywords) => {
            let mut keywords = keywords.clone();
            // All drafts are read as 2020-12, with the older spellings allowed: a draft would hide newer keywords.
            keywords.remove("$schema");
            keywords.insert("x-guidance".to_owned(), options);
            Ok(Value::Object(keywords))
        }
        Value::Bool(true) => Ok(json!({ "x-guidance": options })),
        _ => Err(GrammarError::Invalid { reason: "the schema false allows nothing".to_owned() }),
    }
}

fn check_regex(regex: &str) -> Result<(), GrammarError> {
    let bytes = regex.len();
    if bytes > MAX_REGEX_BYTES {
        return Err(too_large("bytes of regular expression", bytes, MAX_REGEX_BYTES));
    }
    let reason = if regex.is_empty() {
        "the regular expression is empty, which allows no answer"
    } else if regex.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
        "the regular expression ends with a single backslash"
    } else {
        return patterns::check(regex);
    };
    Err(GrammarError::Invalid { reason: reason.to_owned() })
}

fn choice(texts: &[String]) -> Result<String, GrammarError> {
    let bytes = texts.iter().map(String::len).sum();
    if texts.len() > MAX_CHOICES {
        return Err(too_large("choices", texts.len(), MAX_CHOICES));
    }
    if bytes > MAX_CHOICE_BYTES {
        return Err(too_large("bytes of choices", bytes, MAX_CHOICE_BYTES));
    }
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        let reason = "choices must be at least one text, and none empty".to_owned();
        return Err(GrammarError::Invalid { reason });
    }
    let texts: Vec<String> = texts.iter().map(|text| lark_string(text)).collect();
    Ok(format!("start: {}", texts.join(" | ")))
}

/// A string literal of Lark, which is one of JSON but for the character 0x7f.
fn lark_string(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn too_large(what: &'static str, found: usize, limit: usize) -> GrammarError {
    GrammarError::TooLarge { what, found: found as u64, limit: limit as u64 }
}

/// How many compilations are under way.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// One of them.
struct Slot(Arc<Slots>);

impl Slot {
    /// Waits for a slot, as long as a compilation may take.
    fn take(slots: &Arc<Slots>) -> Result<Self, GrammarError> {
        let taken = slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken == COMPILED_AT_A_TIME;
        let waited = slots.freed.wait_timeout_while(taken, COMPILE_TIME, full);
        let (mut taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(GrammarError::Busy { limit: COMPILED_AT_A_TIME });
        }
        *taken += 1;
        Ok(Self(Arc::clone(slots)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

/// Checks and compiles on a thread of its own, with a large stack. One that takes too long is left to its own limits, but keeps
/// its place among those under way.
pub(super) fn compile(
    factory: &Arc<ParserFactory>,
    grammar: &Grammar,
    slots: &Arc<Slots>,
    helper: &Helper,
) -> Result<CompiledGrammar, GrammarError> {
    let slot = Slot::take(slots)?;
    let (sender, receiver) = sync_channel(1);
    let (factory, grammar) = (Arc::clone(factory), grammar.clone());
    let compiling = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES);
    compiling
        .spawn(move || {
            let compiled = checked(&grammar).and_then(|source| run(&factory, source));
            drop(slot);
            let _ = sender.send(compiled);
        })
        .map_err(|error| GrammarError::Invalid { reason: format!("no thread to compile it: {error}") })?;
    match receiver.recv_timeout(COMPILE_TIME) {
        Ok(compiled) => compiled.map(|matcher| CompiledGrammar { matcher, helper: helper.clone() }),
        Err(RecvTimeoutError::Timeout) => Err(GrammarError::TooSlow { limit: COMPILE_TIME }),
        Err(RecvTimeoutError::Disconnected) => {
            Err(GrammarError::Invalid { reason: "compiling it panicked".to_owned() })
        }
    }
}

fn run(factory: &ParserFactory, source: Source) -> Result<Arc<SharedMatcher>, GrammarError> {
    let grammar = match source {
        Source::Schema(schema) => TopLevelGrammar::from_json_schema(schema),
        Source::Regex(regex) => TopLevelGrammar::from_regex(&regex),
        Source::Lark(text) => TopLevelGrammar::from_lark(text),
    };
    let mut matcher = Matcher::new(factory.create_parser(grammar)).into_cancellable();
    let invalid = |reason: &str| GrammarError::Invalid { reason: brief(reason) };
    if let Some(error) = matcher.get_error() {
        return Err(invalid(&error));
    }
    // The first mask proves that the grammar can be followed at all, and warms the caches that each answer copies.
    matcher.compute_mask().map_err(|error| invalid(&error.to_string()))?;
    Ok(Arc::new(SharedMatcher(Mutex::new(Box::new(matcher)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_grammars_are_compiled_at_a_time() {
        let slots = Arc::default();
        let mut taken: Vec<Slot> =
            (0..COMPILED_AT_A_TIME).map(|_| Slot::take(&slots).expect("a free place")).collect();
        let refused = Slot::take(&slots).err();
        assert_eq!(refused, Some(GrammarError::Busy { limit: COMPILED_AT_A_TIME }));
        assert!(refused.is_some_and(|error| error.is_retryable()));
        taken.pop();
        assert!(Slot::take(&slots).is_ok());
    }
}
