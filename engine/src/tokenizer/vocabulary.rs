//! The tokens that the metadata lists: texts, kinds, and which of them a text may become.

use std::collections::{HashMap, HashSet};

use crate::EngineError;
use crate::gguf::{Gguf, Value};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";

/// Longest text of a token. Vocabularies in use stay below 300.
const MAX_TOKEN_BYTES: usize = 1024;

/// Most bytes of all tokens that are searched for in a text. Vocabularies in use stay below 200,000.
const MAX_SEARCHED_BYTES: usize = 1 << 20;

/// Tokens that end a turn or a text, by their text, beside those that the metadata names. They are control tokens
/// even where a file calls them something else. The list is llama.cpp's.
const ENDINGS: [&str; 27] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "</s>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|fim_pad|>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Tokens that are control tokens by their text and do not end an answer: borders of code to be filled in.
const BORDERS: [&str; 22] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
];

/// Values of `tokenizer.ggml.token_type`, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Undefined,
    Normal,
    /// What stands for text that has no token.
    Unknown,
    /// Turn borders, end of text: never text.
    Control,
    /// Whole texts that the model's makers added: looked for before anything is merged.
    UserDefined,
    Unused,
    /// `<0xNN>`: one byte of a character that has no token.
    Byte,
    /// Called user-defined by the file, but written as turn borders are, `<|…|>`: text in an answer, never read in
    /// a message. Not in the format.
    Border,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Undefined,
        Self::Normal,
        Self::Unknown,
        Self::Control,
        Self::UserDefined,
        Self::Unused,
        Self::Byte,
    ];

    /// True if text may become such a token, or be merged into it.
    fn is_text(self) -> bool {
        !matches!(self, Self::Unknown | Self::Control | Self::Byte | Self::Border)
    }
}

/// A file's tokens, checked.
pub(super) struct Vocabulary<'a> {
    pub(super) texts: &'a [String],
    pub(super) kinds: Vec<Kind>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn from_gguf(gguf: &'a Gguf) -> Result<Self, EngineError> {
        let texts = strings(gguf, TOKENS)?;
        let mut seen = HashMap::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            if text.len() > MAX_TOKEN_BYTES {
                let detail =
                    format!("token {id} has {} bytes, at most {MAX_TOKEN_BYTES} are allowed", text.len());
                return Err(inconsistent(TOKENS, detail));
            }
            if !text.is_empty()
                && let Some(other) = seen.insert(text.as_str(), id)
            {
                return Err(inconsistent(TOKENS, format!("tokens {other} and {id} are both {text:?}")));
            }
        }
        let mut kinds = kinds(gguf, texts.len())?;
        let normal_s = seen.contains_key("<|tool_response>") || seen.contains_key("<|plamo:eos|>");
        for name in ENDINGS.into_iter().chain(BORDERS) {
            match seen.get(name) {
                // In some vocabularies it is a strikethrough tag.
                Some(_) if name == "</s>" && normal_s => {}
                Some(id) => kinds[*id] = Kind::Control,
                None => {}
            }
        }
        for (kind, text) in kinds.iter_mut().zip(texts) {
            if *kind == Kind::UserDefined && is_border(text) {
                *kind = Kind::Border;
            }
        }
        let vocabulary = Self { texts, kinds };
        let searched = vocabulary.searched().map(|(_, text)| text.len()).sum::<usize>();
        if searched > MAX_SEARCHED_BYTES {
            let detail = format!(
                "control and user-defined tokens have {searched} bytes, at most {MAX_SEARCHED_BYTES} are allowed"
            );
            return Err(inconsistent(KINDS, detail));
        }
        Ok(vocabulary)
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    fn searched(&self) -> impl Iterator<Item = (u32, &'a str)> {
        let wanted = |kind| matches!(kind, Kind::Control | Kind::Border | Kind::Unknown | Kind::UserDefined);
        self.tokens().filter(move |(_, kind, _)| wanted(*kind)).map(|(id, _, text)| (id, text))
    }

    fn tokens(&self) -> impl Iterator<Item = (u32, Kind, &'a str)> {
        let tokens = self.texts.iter().zip(&self.kinds).enumerate();
        let tokens = tokens.map(|(id, (text, kind))| (id as u32, *kind, text.as_str()));
        tokens.filter(|(_, _, text)| !text.is_empty())
    }

    /// Ids and texts of one kind.
    pub(super) fn of_kind(&self, wanted: Kind) -> Vec<(u32, String)> {
        self.tokens()
            .filter(|(_, kind, _)| *kind == wanted)
            .map(|(id, _, text)| (id, text.to_owned()))
            .collect()
    }

    /// Ids by text, of all tokens.
    pub(super) fn ids(&self) -> HashMap<&'a str, u32> {
        let mut ids = HashMap::with_capacity(self.len());
        ids.extend(self.tokens().map(|(id, _, text)| (text, id)));
        ids
    }

    /// True if text may become this token.
    pub(super) fn is_text(&self, id: u32) -> bool {
        self.kinds[id as usize].is_text()
    }

    /// Ids and texts of the tokens that text may become.
    pub(super) fn text_tokens(&self) -> impl Iterator<Item = (u32, &'a str)> {
        self.tokens().filter(|(_, kind, _)| kind.is_text()).map(|(id, _, text)| (id, text))
    }

    /// Tokens that end an answer by their text.
    pub(super) fn endings(&self) -> HashSet<u32> {
        let control = self.of_kind(Kind::Control);
        let id = |wanted: &str| control.iter().find(|(_, text)| text == wanted).map(|(id, _)| *id);
        let mut endings: HashSet<u32> = ENDINGS.iter().filter_map(|text| id(text)).collect();
        // Where messages have parts of their own, this one ends a part, not the answer.
        let parts = (id("<|return|>").is_some() && id("<|call|>").is_some())
            || ((id("<|call|>").is_some() || id("<|calls|>").is_some()) && id("<|flush|>").is_some());
        if let Some(end) = id("<|end|>")
            && parts
        {
            endings.remove(&end);
        }
        endings
    }

    /// The token for each byte: `<0xNN>`, or the byte as a text, or the unknown token.
    pub(super) fn byte_ids(&self, unknown: Option<u32>) -> Result<Vec<u32>, EngineError> {
        let (mut named, mut alone) = ([None; 256], [None; 256]);
        for (id, _, text) in self.tokens() {
            if let Some(byte) = byte_of(text) {
                named[usize::from(byte)] = Some(id);
            } else if let [byte] = text.as_bytes() {
                alone[usize::from(*byte)] = Some(id);
            }
        }
        let id = |byte: usize| {
            named[byte].or(alone[byte]).or(unknown).ok_or_else(|| {
                inconsistent(
                    TOKENS,
                    format!("<0x{byte:02X}> is not among them, nor is there an unknown token"),
                )
            })
        };
        (0..256).map(id).collect()
    }
}

/// True for `<|…|>`, and for DeepSeek's spelling of it.
fn is_border(text: &str) -> bool {
    [("<|", "|>"), ("<｜", "｜>")].iter().any(|(start, end)| {
        text.len() > start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
    })
}

/// The byte that a token of kind [`Kind::Byte`] stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let sound = digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    if sound { u8::from_str_radix(digits, 16).ok() } else { None }
}

pub(super) fn strings<'a>(gguf: &'a Gguf, key: &str) -> Result<&'a [String], EngineError> {
    match gguf.get(key) {
        Some(Value::Strings(texts)) if !texts.is_empty() => Ok(texts),
        _ => Err(inconsistent(key, "it must be an array of texts with at least one".to_owned())),
    }
}

fn kinds(gguf: &Gguf, tokens: usize) -> Result<Vec<Kind>, EngineError> {
    let kind = |(id, number): (usize, &i64)| {
        let kind = usize::try_from(*number).ok().and_then(|number| Kind::ALL.get(number)).copied();
        kind.ok_or_else(|| {
            inconsistent(KINDS, format!("that of token {id} is {number}, it must be from 0 to 6"))
        })
    };
    match gguf.get(KINDS) {
        Some(Value::Integers(kinds)) if kinds.len() == tokens => kinds.iter().enumerate().map(kind).collect(),
        Some(Value::Integers(kinds)) => {
            Err(inconsistent(KINDS, format!("it has {} elements for {tokens} tokens", kinds.len())))
        }
        _ => Err(inconsistent(KINDS, "it must be an array of integers, one per token".to_owned())),
    }
}

/// One score per token; none may be NaN, for they are compared.
pub(super) fn scores(gguf: &Gguf, tokens: usize) -> Result<Vec<f32>, EngineError> {
    let key = "tokenizer.ggml.scores";
    let scores: Vec<f32> = match gguf.get(key) {
        Some(Value::Floats(scores)) => scores.clone(),
        Some(Value::Integers(scores)) => scores.iter().map(|score| *score as f32).collect(),
        _ => return Err(inconsistent(key, "it must be an array of numbers, one per token".to_owned())),
    };
    if scores.len() != tokens {
        return Err(inconsistent(key, format!("it has {} elements for {tokens} tokens", scores.len())));
    }
    match scores.iter().position(|score| score.is_nan()) {
        Some(id) => Err(inconsistent(key, format!("that of token {id} is not a number"))),
        None => Ok(scores),
    }
}

/// The token that a key names; `default` if the key is absent and there is such a token.
pub(super) fn token_id(
    gguf: &Gguf,
    key: &str,
    tokens: usize,
    default: Option<u32>,
) -> Result<Option<u32>, EngineError> {
    match gguf.get(key) {
        None => Ok(default.filter(|id| (*id as usize) < tokens)),
        Some(Value::Integer(id)) if (0..tokens as i128).contains(id) => Ok(Some(*id as u32)),
        Some(Value::Integer(id)) => {
            Err(inconsistent(key, format!("it is {id}, but there are {tokens} tokens")))
        }
        Some(_) => Err(inconsistent(key, "it must be an integer".to_owned())),
    }
}

/// A flag; `default` if the key is absent.
pub(super) fn flag(gguf: &Gguf, key: &str, default: bool) -> Result<bool, EngineError> {
    match gguf.get(key) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(inconsistent(key, "it must be true or false".to_owned())),
    }
}

pub(super) fn inconsistent(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}
