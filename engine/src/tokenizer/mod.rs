//! Tokenizers built from GGUF metadata.

mod bytes;
mod control;
mod pretokenizer;

use std::collections::{HashMap, HashSet};

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use crate::EngineError;
use crate::gguf::{Gguf, Value};
pub(crate) use control::ControlTokens;
use control::Part;

/// Names under which models end a turn or a text, beside the ids that the metadata names.
const ENDINGS: [&str; 6] =
    ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "</s>"];

/// Values of `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Byte-level BPE with a model's own vocabulary and merges.
pub(crate) struct Tokenizer {
    merger: BPE,
    cutter: PreTokenizerWrapper,
    control: ControlTokens,
    /// The bytes that each id stands for; none for control tokens.
    bytes: Vec<Box<[u8]>>,
    endings: HashSet<u32>,
    bos: Option<u32>,
    bos_text: String,
    eos_text: String,
    add_bos: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self, EngineError> {
        check_supported(gguf)?;
        let texts = strings(gguf, "tokenizer.ggml.tokens")?;
        let kinds = kinds(gguf, texts.len())?;
        let rules = pretokenizer::rules(gguf.string("tokenizer.ggml.pre").unwrap_or("gpt-2"))?;
        let merger = merger(gguf, texts, rules.whole_words)?;
        let of_kind = |wanted: i64| -> Vec<(u32, String)> {
            let ids = texts.iter().zip(&kinds).enumerate().filter(|(_, (_, kind))| **kind == wanted);
            ids.map(|(id, (text, _))| (id as u32, text.clone()))
                .filter(|(_, text)| !text.is_empty())
                .collect()
        };
        let control = of_kind(CONTROL);
        let id = |key: &str| token_id(gguf, key, texts.len());
        let bos = id("tokenizer.ggml.bos_token_id")?;
        let eos = id("tokenizer.ggml.eos_token_id")?;
        let eot = id("tokenizer.ggml.eot_token_id")?;
        let named = control.iter().filter(|(_, text)| ENDINGS.contains(&text.as_str())).map(|(id, _)| *id);
        let text = |id: Option<u32>| id.map(|id| texts[id as usize].clone()).unwrap_or_default();
        Ok(Self {
            merger,
            cutter: rules.cutter,
            bytes: spell_out(texts, &kinds),
            endings: named.chain(eos).chain(eot).collect(),
            bos_text: text(bos),
            eos_text: text(eos),
            control: ControlTokens::new(control, of_kind(USER_DEFINED))?,
            bos,
            add_bos: matches!(gguf.get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true))),
        })
    }

    /// Makes a control token show in answers as its text, if the vocabulary has it: a mark that begins calls of tools
    /// must be seen by what looks for them. Tokens that end an answer never show.
    pub(crate) fn show(&mut self, text: &str) -> Result<(), EngineError> {
        let ids = self.encode_with_control(text)?;
        let shown = ids.last().filter(|id| self.bytes(**id).is_empty() && !self.ends(**id));
        if let Some(bytes) = shown.and_then(|id| self.bytes.get_mut(*id as usize)) {
            *bytes = text.as_bytes().into();
        }
        Ok(())
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    /// Ids of a prompt; control tokens are not read in it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_parts(text, false, None)
    }

    /// Ids of a prompt in which control tokens are read.
    pub(crate) fn encode_with_control(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_parts(text, true, None)
    }

    /// Ids of a rendered conversation: control tokens are read, then `mark` is taken out of the rest.
    pub(crate) fn encode_guarded(&self, text: &str, mark: char) -> Result<Vec<u32>, EngineError> {
        self.encode_parts(text, true, Some(mark))
    }

    fn encode_parts(&self, text: &str, control: bool, mark: Option<char>) -> Result<Vec<u32>, EngineError> {
        let mut ids = Vec::new();
        for part in self.control.cut(text, control) {
            match (part, mark) {
                (Part::Token(id), _) => ids.push(id),
                (Part::Text(text), Some(mark)) => self.encode_text(&text.replace(mark, ""), &mut ids)?,
                (Part::Text(text), None) => self.encode_text(text, &mut ids)?,
            }
        }
        match self.bos {
            Some(bos) if self.add_bos && ids.first() != Some(&bos) => ids.insert(0, bos),
            _ => {}
        }
        Ok(ids)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        let backend = |error: tokenizers::Error| EngineError::Backend(error.to_string());
        let mut words = PreTokenizedString::from(text);
        self.cutter.pre_tokenize(&mut words).map_err(backend)?;
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(self.merger.tokenize(word).map_err(backend)?.iter().map(|token| token.id));
        }
        Ok(())
    }

    /// The bytes that a token adds to the text.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// True if the token ends the answer.
    pub(crate) fn ends(&self, id: u32) -> bool {
        self.endings.contains(&id)
    }

    pub(crate) fn control(&self) -> &ControlTokens {
        &self.control
    }

    /// The text of the token that begins a text, for templates.
    pub(crate) fn bos_text(&self) -> &str {
        &self.bos_text
    }

    /// The text of the token that ends a text, for templates.
    pub(crate) fn eos_text(&self) -> &str {
        &self.eos_text
    }
}

fn check_supported(gguf: &Gguf) -> Result<(), EngineError> {
    let unsupported = |what: &str, found: String, supported: &str| {
        Err(EngineError::Unsupported { what: what.to_owned(), found, supported: supported.to_owned() })
    };
    match gguf.string("tokenizer.ggml.model") {
        Some("gpt2") => {}
        other => {
            let found = other.map_or("absent".to_owned(), |name| format!("{name:?}"));
            return unsupported("tokenizer.ggml.model", found, "\"gpt2\" (byte-level BPE)");
        }
    }
    match gguf.get("tokenizer.ggml.add_space_prefix") {
        Some(Value::Bool(true)) => unsupported("tokenizer.ggml.add_space_prefix", "true".to_owned(), "false"),
        _ => Ok(()),
    }
}

fn strings<'a>(gguf: &'a Gguf, key: &str) -> Result<&'a [String], EngineError> {
    match gguf.get(key) {
        Some(Value::Strings(texts)) if !texts.is_empty() => Ok(texts),
        _ => Err(inconsistent(key, "it must be an array of texts with at least one".to_owned())),
    }
}

fn kinds(gguf: &Gguf, tokens: usize) -> Result<Vec<i64>, EngineError> {
    let key = "tokenizer.ggml.token_type";
    match gguf.get(key) {
        Some(Value::Integers(kinds)) if kinds.len() == tokens => Ok(kinds.clone()),
        Some(Value::Integers(kinds)) => {
            Err(inconsistent(key, format!("it has {} elements for {tokens} tokens", kinds.len())))
        }
        _ => Err(inconsistent(key, "it must be an array of integers, one per token".to_owned())),
    }
}

fn token_id(gguf: &Gguf, key: &str, tokens: usize) -> Result<Option<u32>, EngineError> {
    match gguf.unsigned(key) {
        None => Ok(None),
        Some(id) if id < tokens as u64 => Ok(Some(id as u32)),
        Some(id) => Err(inconsistent(key, format!("it is {id}, but there are {tokens} tokens"))),
    }
}

fn merger(gguf: &Gguf, texts: &[String], whole_words: bool) -> Result<BPE, EngineError> {
    let key = "tokenizer.ggml.merges";
    let pair = |merge: &String| {
        let (left, right) = merge
            .split_once(' ')
            .ok_or_else(|| inconsistent(key, format!("{merge:?} is not two texts with a space between")))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    let merges: Merges = strings(gguf, key)?.iter().map(pair).collect::<Result<_, EngineError>>()?;
    let vocabulary: Vocab = texts.iter().enumerate().map(|(id, text)| (text.clone(), id as u32)).collect();
    BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(whole_words)
        .build()
        .map_err(|error| inconsistent(key, error.to_string()))
}

fn spell_out(texts: &[String], kinds: &[i64]) -> Vec<Box<[u8]>> {
    let spelling: HashMap<char, u8> = bytes::spelling();
    let decode = |text: &String| -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            match spelling.get(&character) {
                Some(byte) => bytes.push(*byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes.into()
    };
    let spell = |(text, kind): (&String, &i64)| match *kind {
        CONTROL => Box::default(),
        USER_DEFINED => text.as_bytes().into(),
        _ => decode(text),
    };
    texts.iter().zip(kinds).map(spell).collect()
}

fn inconsistent(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}
