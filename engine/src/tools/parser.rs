//! Finding calls in an answer while it is written.

use serde_json::Value;

use super::format::ToolFormat;
use super::json::{Found, Scan};
use crate::ToolCall;

const PYTHON_TAG: &str = "<|python_tag|>";
const HERMES_CLOSING: &str = "</tool_call>";

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolPiece {
    /// Text for the reader; never part of a call.
    Text(String),
    /// A complete call.
    Call(ToolCall),
}

/// Takes an answer apart, piece by piece: text that belongs to no call comes out at once, what may be the beginning of a
/// call is held back until that is known. What only looked like a call comes out as the text that it is. White space
/// before, between and after calls is dropped. However the answer is cut into pieces, the result is the same.
///
/// Memory is bounded by the length of the longest call.
#[derive(Debug, Clone)]
pub struct ToolCallParser {
    format: ToolFormat,
    /// Not yet decided.
    held: String,
    phase: Phase,
    /// White space at the beginning of a stretch of text.
    blank: String,
    /// Whether the present stretch of text has come out in part.
    written: bool,
    calls: usize,
}

#[derive(Debug, Clone)]
enum Phase {
    /// At the beginning, or after a call, in a format where calls have no opening mark.
    Start,
    /// In text, where a call may begin with its mark.
    Text,
    /// In text that can hold no call any more.
    Rest,
    /// After `opening` bytes of a mark, the first `scanned` of the bytes held have been looked at.
    Value { opening: usize, scanned: usize, scan: Scan },
    /// After a call of Hermes' format.
    Closing,
}

impl ToolCallParser {
    /// A parser for one answer.
    pub fn new(format: ToolFormat) -> Self {
        let phase = if format.opening().is_some() { Phase::Text } else { Phase::Start };
        Self { format, held: String::new(), phase, blank: String::new(), written: false, calls: 0 }
    }

    /// More of the answer; what is decided by it.
    pub fn push(&mut self, text: &str) -> Vec<ToolPiece> {
        self.held.push_str(text);
        self.run(false)
    }

    /// The answer has ended; all that is left of it.
    pub fn finish(mut self) -> Vec<ToolPiece> {
        let mut pieces = self.run(true);
        if self.calls == 0 && !self.written && !self.blank.is_empty() {
            pieces.push(ToolPiece::Text(std::mem::take(&mut self.blank)));
        }
        pieces
    }

    fn run(&mut self, last: bool) -> Vec<ToolPiece> {
        let mut pieces = Vec::new();
        while self.step(last, &mut pieces) {}
        pieces
    }

    /// Decides on some of what is held; `false` if that takes more text.
    fn step(&mut self, last: bool, pieces: &mut Vec<ToolPiece>) -> bool {
        match std::mem::replace(&mut self.phase, Phase::Rest) {
            Phase::Start => self.start(last),
            Phase::Text => self.text(last, pieces),
            Phase::Rest => {
                let text = std::mem::take(&mut self.held);
                self.write(&text, pieces);
                false
            }
            Phase::Value { opening, scanned, scan } => self.value(opening, scanned, scan, last, pieces),
            Phase::Closing => self.closing(last),
        }
    }

    /// A call begins with a brace, perhaps after a tag, or after a semicolon behind another call.
    fn start(&mut self, last: bool) -> bool {
        let after_call = self.calls > 0;
        let trimmed = self.held.trim_start_matches(|character: char| {
            character.is_ascii_whitespace() || (after_call && character == ';')
        });
        let body = trimmed.strip_prefix(PYTHON_TAG).map_or(trimmed, str::trim_start);
        if body.starts_with('{') {
            let opening = self.held.len() - body.len();
            self.phase = Phase::Value { opening, scanned: opening, scan: Scan::default() };
            return true;
        }
        if !last && (body.is_empty() || PYTHON_TAG.starts_with(trimmed)) {
            self.phase = Phase::Start;
            return false;
        }
        if after_call && trimmed.is_empty() {
            self.held.clear();
        }
        self.phase = Phase::Rest;
        true
    }

    fn text(&mut self, last: bool, pieces: &mut Vec<ToolPiece>) -> bool {
        let mark = self.format.opening().unwrap_or_default();
        if let Some(start) = self.held.find(mark) {
            let text: String = self.held.drain(..start).collect();
            self.write(&text, pieces);
            let opening = mark.len();
            self.phase = Phase::Value { opening, scanned: opening, scan: Scan::default() };
            return true;
        }
        let begun = (1..mark.len()).rev().find(|length| self.held.ends_with(&mark[..*length]));
        let safe = self.held.len() - begun.filter(|_| !last).unwrap_or(0);
        let text: String = self.held.drain(..safe).collect();
        self.write(&text, pieces);
        self.phase = Phase::Text;
        false
    }

    fn value(
        &mut self,
        opening: usize,
        scanned: usize,
        mut scan: Scan,
        last: bool,
        pieces: &mut Vec<ToolPiece>,
    ) -> bool {
        let first = if self.format == ToolFormat::Mistral { b'[' } else { b'{' };
        match scan.go_on(&self.held[scanned..], first) {
            Found::More if !last => {
                self.phase = Phase::Value { opening, scanned: self.held.len(), scan };
                false
            }
            Found::End(end) => {
                let end = scanned + end;
                match calls(&self.held[opening..end], self.format) {
                    Some(calls) => {
                        self.held.drain(..end);
                        self.calls += calls.len();
                        self.written = false;
                        self.blank.clear();
                        pieces.extend(calls.into_iter().map(ToolPiece::Call));
                        self.phase = match self.format {
                            ToolFormat::Hermes => Phase::Closing,
                            ToolFormat::Llama => Phase::Start,
                            ToolFormat::Mistral => Phase::Text,
                        };
                    }
                    None => self.give_up(opening, pieces),
                }
                true
            }
            Found::More | Found::Other => {
                self.give_up(opening, pieces);
                true
            }
        }
    }

    /// What looked like a call is none: its mark is text, and so is the rest unless another mark comes.
    fn give_up(&mut self, opening: usize, pieces: &mut Vec<ToolPiece>) {
        let mark: String = self.held.drain(..opening).collect();
        self.write(&mark, pieces);
        self.phase = if self.format.opening().is_some() { Phase::Text } else { Phase::Rest };
    }

    fn closing(&mut self, last: bool) -> bool {
        let body = self.held.trim_start();
        if let Some(rest) = body.strip_prefix(HERMES_CLOSING) {
            self.held = rest.to_owned();
        } else if HERMES_CLOSING.starts_with(body) {
            if !last {
                self.phase = Phase::Closing;
                return false;
            }
            // The answer was cut within the mark, or ended without.
            self.held.clear();
        }
        self.phase = Phase::Text;
        true
    }

    fn write(&mut self, text: &str, pieces: &mut Vec<ToolPiece>) {
        if self.written {
            if !text.is_empty() {
                pieces.push(ToolPiece::Text(text.to_owned()));
            }
            return;
        }
        self.blank.push_str(text);
        if self.blank.contains(|character: char| !character.is_ascii_whitespace()) {
            self.written = true;
            pieces.push(ToolPiece::Text(std::mem::take(&mut self.blank)));
        }
    }
}

/// The calls in a JSON text; `None` if it is none.
fn calls(text: &str, format: ToolFormat) -> Option<Vec<ToolCall>> {
    let value: Value = serde_json::from_str(text).ok()?;
    match (format, value) {
        (ToolFormat::Mistral, Value::Array(calls)) if !calls.is_empty() => {
            calls.into_iter().map(call).collect()
        }
        (ToolFormat::Hermes | ToolFormat::Llama, call_value) => Some(vec![call(call_value)?]),
        _ => None,
    }
}

/// Models mix up the names for arguments, and some write them as text: both are taken.
fn call(value: Value) -> Option<ToolCall> {
    let Value::Object(mut members) = value else { return None };
    let name = members.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())?.to_owned();
    let arguments = match members.remove("arguments").or_else(|| members.remove("parameters"))? {
        Value::String(text) => serde_json::from_str(&text).ok()?,
        other => other,
    };
    let id = members.get("id").and_then(Value::as_str).map(str::to_owned);
    arguments.is_object().then_some(ToolCall { id, name, arguments })
}
