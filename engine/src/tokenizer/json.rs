//! Tokenizers described by a `tokenizer.json`, the form in which models in safetensors bring theirs.
//!
//! Format: <https://huggingface.co/docs/tokenizers>. The file may come from anywhere: of its parts, only those
//! are taken whose time and memory are bounded by the text's length.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Inner;

use super::MAX_TEXT_BYTES;
use super::vocabulary::inconsistent;
use crate::gguf::open;
use crate::{EngineError, GenerationError};

const WHAT: &str = "tokenizer.json";

/// Largest file: several times that of the largest vocabulary in use.
const MAX_FILE_BYTES: usize = 64 << 20;

/// Longest word that WordPiece may take apart, in characters: the time grows with its square.
const MAX_WORD: u64 = 1000;

/// Longest text that a rule may put into a text.
const MAX_INSERTED_BYTES: usize = 32;

/// How many times longer all replacing rules together may make a text.
const MAX_GROWTH: usize = 16;

/// The sections, and what each may be made of. Patterns and precompiled tables are absent: they can be
/// written so as to take unbounded time.
const PARTS: [(&str, &[&str]); 5] = [
    ("model", &["WordPiece", "BPE", "Unigram", "WordLevel"]),
    (
        "normalizer",
        &[
            "BertNormalizer",
            "Lowercase",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Nmt",
            "Prepend",
            "Replace",
            "Sequence",
            "Strip",
            "StripAccents",
        ],
    ),
    (
        "pre_tokenizer",
        &[
            "BertPreTokenizer",
            "ByteLevel",
            "CharDelimiterSplit",
            "Digits",
            "Metaspace",
            "Punctuation",
            "Sequence",
            "Split",
            "UnicodeScripts",
            "Whitespace",
            "WhitespaceSplit",
        ],
    ),
    (
        "post_processor",
        &["BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"],
    ),
    (
        "decoder",
        &[
            "BPEDecoder",
            "ByteFallback",
            "ByteLevel",
            "Fuse",
            "Metaspace",
            "Replace",
            "Sequence",
            "Strip",
            "WordPiece",
        ],
    ),
];

/// A tokenizer that never cuts a text off, nor pads it.
///
/// Special tokens are put around a text where the file says so. A text that contains the spelling of one,
/// such as `[SEP]`, is encoded as that text. Files whose rules have regular expressions are refused.
///
/// ```no_run
/// # fn main() -> Result<(), dividend_engine::EngineError> {
/// let tokenizer = dividend_engine::JsonTokenizer::from_file("model/tokenizer.json".as_ref())?;
/// let ids = tokenizer.encode("Hello")?;
/// assert!(ids.iter().all(|id| *id < tokenizer.id_bound()));
/// # Ok(())
/// # }
/// ```
pub struct JsonTokenizer {
    inner: Inner,
    id_bound: u32,
}

impl JsonTokenizer {
    /// Reads the file at `path`.
    pub fn from_file(path: &Path) -> Result<Self, EngineError> {
        let mut bytes = Vec::new();
        let mut limited = open(path)?.take(MAX_FILE_BYTES as u64 + 1);
        limited.read_to_end(&mut bytes).map_err(|source| EngineError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes)
    }

    /// Reads the contents of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(inconsistent(WHAT, format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        let json: Value = serde_json::from_slice(bytes)
            .map_err(|error| inconsistent(WHAT, format!("it is not JSON: {error}")))?;
        check(&json)?;
        drop(json);
        guarded(|| {
            let mut inner = Inner::from_bytes(bytes)?;
            inner.with_truncation(None)?;
            inner.with_padding(None);
            inner.set_encode_special_tokens(true);
            let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
            Ok(Self { inner, id_bound: largest.saturating_add(1) })
        })
    }

    /// Ids of `text`, with the special tokens that the file puts around it. Refuses texts of more than 8 MiB.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(EngineError::TextTooLong { bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
        guarded(|| Ok(self.inner.encode_fast(text, true)?.get_ids().to_vec()))
    }

    /// The text of `ids`, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        guarded(|| self.inner.decode(ids, true))
    }

    /// The id of a token by its text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// All ids are below it: an embedding needs as many rows.
    pub fn id_bound(&self) -> u32 {
        self.id_bound
    }
}

impl std::fmt::Debug for JsonTokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JsonTokenizer").field("id_bound", &self.id_bound).finish_non_exhaustive()
    }
}

/// The library's errors, and its panics on what it did not expect.
fn guarded<T>(work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| inconsistent(WHAT, GenerationError::panicked(&*panic).to_string()))?
        .map_err(|error| inconsistent(WHAT, error.to_string()))
}

fn check(json: &Value) -> Result<(), EngineError> {
    for (part, known) in PARTS {
        let section = &json[part];
        if section.is_null() && part != "model" {
            continue;
        }
        if !section["type"].is_string() {
            return Err(inconsistent(WHAT, format!("its {part} has no type")));
        }
        check_part(part, known, section)?;
    }
    for part in ["normalizer", "decoder"] {
        let growth = growth(&json[part]);
        if growth > MAX_GROWTH {
            let detail =
                format!("its {part} can make a text {growth} times longer, at most {MAX_GROWTH} is allowed");
            return Err(inconsistent(WHAT, detail));
        }
    }
    let model = &json["model"];
    let longest = &model["max_input_chars_per_word"];
    if !longest.is_null() && longest.as_u64().is_none_or(|characters| characters > MAX_WORD) {
        let detail = format!("max_input_chars_per_word is {longest}; it must be from 0 to {MAX_WORD}");
        return Err(inconsistent(WHAT, detail));
    }
    if model["dropout"].as_f64().is_some_and(|share| share != 0.0) {
        return Err(inconsistent(
            WHAT,
            "dropout would give other ids each time; it must be absent".to_owned(),
        ));
    }
    Ok(())
}

/// Every kind that is named in a section is a known one, and what it inserts is short.
fn check_part(part: &str, known: &[&str], section: &Value) -> Result<(), EngineError> {
    let mut open = vec![section];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(values) => open.extend(values),
            Value::Object(fields) => {
                for (key, field) in fields {
                    check_field(part, known, key, field)?;
                    // A vocabulary may have a token "type".
                    if key != "vocab" {
                        open.push(field);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many times longer the replacing rules in `section` can make a text, one after the other.
fn growth(section: &Value) -> usize {
    let inner: usize = match section {
        Value::Array(values) => values.iter().map(growth).fold(1, usize::saturating_mul),
        Value::Object(fields) => fields.values().map(growth).fold(1, usize::saturating_mul),
        _ => 1,
    };
    let bytes = |text: &Value| text.as_str().map_or(0, str::len);
    let here = match bytes(&section["pattern"]["String"]) {
        _ if section["pattern"].is_null() => 1,
        // Nothing is found before every character.
        0 => bytes(&section["content"]) + 1,
        pattern => bytes(&section["content"]).div_ceil(pattern).max(1),
    };
    inner.saturating_mul(here)
}

fn check_field(part: &str, known: &[&str], key: &str, field: &Value) -> Result<(), EngineError> {
    let unsupported = |found: &str| {
        let (what, found) = (format!("{WHAT}'s {part}"), format!("{found:?}"));
        Err(EngineError::Unsupported { what, found, supported: known.join(", ") })
    };
    match (key, field) {
        ("type", Value::String(kind)) if !known.contains(&kind.as_str()) => unsupported(kind),
        ("Regex", _) if part != "model" => unsupported("Regex"),
        ("content" | "prepend" | "replacement", Value::String(text)) if text.len() > MAX_INSERTED_BYTES => {
            let detail = format!("{key} has {} bytes; at most {MAX_INSERTED_BYTES} are allowed", text.len());
            Err(inconsistent(WHAT, detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    const WORDS: [&str; 12] =
        ["[UNK]", "[CLS]", "[SEP]", "hello", "world", "##s", "un", "##able", "!", "[", "]", "sep"];

    fn word_piece(words: &[&str]) -> Value {
        let vocabulary: BTreeMap<&str, usize> = words.iter().copied().zip(0..).collect();
        let special = ["[UNK]", "[CLS]", "[SEP]"].into_iter().zip(0..).map(|(text, id)| {
            json!({"id": id, "content": text, "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false})
        });
        let special: Vec<Value> = special.collect();
        json!({
            "version": "1.0",
            "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": null,
            "added_tokens": special,
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary},
        })
    }

    fn parse(json: &Value) -> Result<JsonTokenizer, EngineError> {
        JsonTokenizer::from_bytes(json.to_string().as_bytes())
    }

    fn with(path: &str, value: Value) -> String {
        let mut json = word_piece(&WORDS);
        *json.pointer_mut(path).expect("a field of the file") = value;
        parse(&json).expect_err("a spoiled file").to_string()
    }

    #[test]
    fn words_are_taken_apart_from_the_left() {
        let tokenizer = parse(&word_piece(&WORDS)).expect("a sound file");
        assert_eq!(tokenizer.encode("Héllo worlds, unable!").expect("short"), [1, 3, 4, 5, 0, 6, 7, 8, 2]);
        assert_eq!(tokenizer.encode("").expect("short"), [1, 2]);
        assert_eq!(
            (tokenizer.token_id("un"), tokenizer.token_id("none"), tokenizer.id_bound()),
            (Some(6), None, 12)
        );
        assert_eq!(tokenizer.decode(&[1, 3, 4, 5, 2]).expect("known ids"), "hello worlds");
    }

    #[test]
    fn special_tokens_in_a_text_stay_text() {
        let tokenizer = parse(&word_piece(&WORDS)).expect("a sound file");
        assert_eq!(tokenizer.encode("hello [SEP]").expect("short"), [1, 3, 9, 11, 10, 2]);
    }

    #[test]
    fn long_texts_are_bounded() {
        let tokenizer = parse(&word_piece(&WORDS)).expect("a sound file");
        assert_eq!(tokenizer.encode(&"a".repeat(1 << 20)).expect("one long word"), [1, 0, 2]);
        let error = tokenizer.encode(&"a".repeat((8 << 20) + 1)).expect_err("too long").to_string();
        assert!(error.contains("8388609"), "{error}");
    }

    #[test]
    fn what_could_run_away_is_refused_by_name() {
        let regex =
            json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false});
        let long = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b".repeat(1000)});
        let doubles = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let cases = [
            ("/pre_tokenizer", regex.clone(), "Regex"),
            ("/pre_tokenizer", json!({"type": "Sequence", "pretokenizers": [regex]}), "Regex"),
            ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "Precompiled"),
            ("/normalizer", json!({"type": "Sequence", "normalizers": [long]}), "1000 bytes"),
            ("/normalizer", json!({"type": "Sequence", "normalizers": vec![doubles; 50]}), "times longer"),
            ("/decoder", json!({"type": "Replace", "pattern": {"Regex": "a*"}, "content": ""}), "Regex"),
            ("/normalizer", json!([]), "normalizer has no type"),
            ("/model/type", json!("Unheard"), "WordPiece, BPE"),
            ("/model/max_input_chars_per_word", json!(1_000_000), "max_input_chars_per_word"),
            ("/model/unk_token", json!(7), "tokenizer.json"),
            ("/model/vocab", json!({"a": -1}), "tokenizer.json"),
            ("/model", json!(null), "model has no type"),
        ];
        for (path, value, named) in cases {
            let error = with(path, value);
            assert!(error.contains(named), "{named} is not in: {error}");
        }
        for bytes in [&b""[..], b"{", b"[]", b"\xff", &[b'['; 100_000]] {
            assert!(JsonTokenizer::from_bytes(bytes).is_err());
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = JsonTokenizer::from_file("/nowhere/tokenizer.json".as_ref()).expect_err("absent");
        assert!(matches!(error, EngineError::Missing { .. }));
    }
}
