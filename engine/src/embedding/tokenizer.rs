//! Text to token ids, by `tokenizer.json` or, without one, `vocab.txt`.

use std::panic::catch_unwind;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

use super::config::{MAX_JSON_BYTES, inconsistent, unsupported};
use super::folder::Folder;
use crate::{EngineError, GenerationError, bounded};

/// Longest vocabulary file.
const MAX_BYTES: u64 = 64 << 20;
/// Longest word that is taken apart, in characters; BERT's own limit is 100. The time for a word grows with its square.
const MAX_WORD: u64 = 256;

/// What BERT's tokenizers are made of. Other parts could take unbounded time or memory when a stranger sets them.
const PARTS: [(&str, &[&str]); 4] = [
    ("model", &["WordPiece"]),
    ("normalizer", &["BertNormalizer"]),
    ("pre_tokenizer", &["BertPreTokenizer"]),
    ("post_processor", &["TemplateProcessing", "BertProcessing"]),
];

/// A tokenizer that never cuts a text off, nor pads it.
pub(super) struct TextTokenizer {
    tokenizer: Tokenizer,
    lowercase: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
}

impl TextTokenizer {
    /// Reads the tokenizer of a model.
    pub(super) fn load(folder: &Folder) -> Result<Self, EngineError> {
        let path = folder.transformer.join("tokenizer.json");
        let mut tokenizer = match bounded::read(&path, MAX_BYTES) {
            Ok(bytes) => from_json(&bytes)?,
            Err(EngineError::Missing { .. }) => from_vocabulary(folder)?,
            Err(error) => return Err(error),
        };
        let failed = |error: tokenizers::Error| inconsistent("tokenizer.json", error.to_string());
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.with_padding(None);
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= folder.config.vocab_size {
            let detail = format!("it has token id {largest}; the model has {}", folder.config.vocab_size);
            return Err(inconsistent("tokenizer", detail));
        }
        let tokenizer = Self { tokenizer, lowercase: folder.lowercase };
        tokenizer.encode("a")?;
        Ok(tokenizer)
    }

    /// The ids of a text, with those that begin and end it.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let lower = self.lowercase.then(|| text.to_lowercase());
        let text = lower.as_deref().unwrap_or(text);
        let encoded = self.tokenizer.encode_fast(text, true);
        let encoded = encoded.map_err(|error| EngineError::Backend(error.to_string()))?;
        Ok(encoded.get_ids().to_vec())
    }
}

fn from_json(bytes: &[u8]) -> Result<Tokenizer, EngineError> {
    let what = "tokenizer.json";
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|error| inconsistent(what, format!("it is not the JSON that is expected: {error}")))?;
    for (part, known) in PARTS {
        let kind = json[part]["type"].as_str().unwrap_or("absent");
        if !known.contains(&kind) {
            return Err(unsupported(&format!("{what}'s {part}"), kind, &known.join(", ")));
        }
    }
    let longest = &json["model"]["max_input_chars_per_word"];
    if !longest.is_null() && longest.as_u64().is_none_or(|limit| limit > MAX_WORD) {
        let detail = format!("it is {longest}; it must be up to {MAX_WORD}");
        return Err(inconsistent("max_input_chars_per_word", detail));
    }
    drop(json);
    catch_unwind(|| Tokenizer::from_bytes(bytes))
        .map_err(|panic| inconsistent(what, GenerationError::panicked(&*panic).to_string()))?
        .map_err(|error| inconsistent(what, error.to_string()))
}

fn from_vocabulary(folder: &Folder) -> Result<Tokenizer, EngineError> {
    let what = "vocab.txt";
    let path = folder.transformer.join(what);
    let bytes = bounded::read(&path, MAX_BYTES).map_err(|error| match error {
        EngineError::Missing { .. } => {
            inconsistent("tokenizer", "there is no tokenizer.json, nor a vocab.txt".to_owned())
        }
        other => other,
    })?;
    let vocabulary = WordPiece::read_bytes(&bytes).map_err(|error| inconsistent(what, error.to_string()))?;
    let special = |token: &str| {
        let id = vocabulary.get(token).copied();
        id.map(|id| (token.to_owned(), id)).ok_or_else(|| inconsistent(what, format!("it has no {token}")))
    };
    let (begin, end, unknown) = (special("[CLS]")?, special("[SEP]")?, special("[UNK]")?);
    let path = folder.transformer.join("tokenizer_config.json");
    let config: TokenizerConfig = bounded::read_optional_json(&path, MAX_JSON_BYTES)?.unwrap_or_default();
    let model = WordPiece::builder()
        .vocab(vocabulary)
        .unk_token(unknown.0)
        .build()
        .map_err(|error| inconsistent(what, error.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    let chinese = config.tokenize_chinese_chars.unwrap_or(true);
    let normalizer =
        BertNormalizer::new(true, chinese, config.strip_accents, config.do_lower_case.unwrap_or(true));
    tokenizer.with_normalizer(Some(normalizer)).map_err(|error| inconsistent(what, error.to_string()))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(end, begin)));
    Ok(tokenizer)
}
