//! Tokenizers built from GGUF metadata. That of an embedding model, from `tokenizer.json`, is `embedding`'s own.
//!
//! ```text
//! text ─► control ─► parts: tokens written as text, and the text between
//!                      │
//!                      ├─► pretokenizer (families) ─► words ─► bpe: merged by a list of pairs
//!                      └─► sentencepiece: merged by the tokens' scores
//! ```
//! Both merge by `merge`. The ids are llama.cpp's, but that text never becomes a control token, not even letter by letter.

mod bpe;
mod bytes;
mod control;
mod families;
mod merge;
mod pretokenizer;
mod sentencepiece;
mod special;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::borrow::Cow;

use crate::EngineError;
use crate::gguf::Gguf;
use bpe::Bpe;
pub(crate) use control::ControlTokens;
use control::Part;
use pretokenizer::Spelling;
use sentencepiece::{SPACE, SentencePiece};
use special::Special;
use vocabulary::{Kind, Vocabulary};

/// Longest text that is turned into tokens: above any context, and a bound on memory.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// A model's own vocabulary and rules.
pub(crate) struct Tokenizer {
    model: Model,
    control: ControlTokens,
    special: Special,
    /// The bytes that each id stands for; none for control tokens.
    bytes: Vec<Box<[u8]>>,
}

enum Model {
    Bpe(Bpe),
    SentencePiece(SentencePiece),
}

/// What a text is encoded for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A prompt as the user wrote it.
    Text,
    /// A prompt that the operator wrote: control tokens are read in it.
    Control,
    /// A rendered conversation, in which `mark` keeps control tokens from being read in messages.
    Chat { mark: char },
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self, EngineError> {
        match gguf.string("tokenizer.ggml.model") {
            Some("llama") => Self::sentencepiece(gguf),
            Some("gpt2") => Self::bpe(gguf, gguf.string("tokenizer.ggml.pre").unwrap_or("default")),
            Some("gemma4") => Self::bpe(gguf, "gemma4"),
            other => Err(EngineError::Unsupported {
                what: "tokenizer.ggml.model".to_owned(),
                found: other.map_or("absent".to_owned(), |name| format!("{name:?}")),
                supported: "\"gpt2\" (byte-level BPE), \"llama\" (SentencePiece BPE), \"gemma4\"".to_owned(),
            }),
        }
    }

    fn sentencepiece(gguf: &Gguf) -> Result<Self, EngineError> {
        let vocabulary = Vocabulary::from_gguf(gguf)?;
        let scores = vocabulary::scores(gguf, vocabulary.len())?;
        let special = Special::of_sentencepiece(gguf, &vocabulary)?;
        let space_prefix = vocabulary::flag(gguf, "tokenizer.ggml.add_space_prefix", true)?;
        let model = SentencePiece::new(&vocabulary, &scores, special.unknown, space_prefix)?;
        Self::new(&vocabulary, Model::SentencePiece(model), special, Spelling::Spaces)
    }

    fn bpe(gguf: &Gguf, pre: &str) -> Result<Self, EngineError> {
        let rules = pretokenizer::rules(pre)?;
        let vocabulary = Vocabulary::from_gguf(gguf)?;
        let merges = vocabulary::strings(gguf, bpe::MERGES)?;
        let special = Special::of_bpe(gguf, &vocabulary, rules.adds_bos)?;
        let spelling = rules.spelling;
        let model = Bpe::new(&vocabulary, merges, rules, special.unknown)?;
        Self::new(&vocabulary, Model::Bpe(model), special, spelling)
    }

    fn new(
        vocabulary: &Vocabulary<'_>,
        model: Model,
        special: Special,
        spelling: Spelling,
    ) -> Result<Self, EngineError> {
        let control =
            [Kind::Control, Kind::Border, Kind::Unknown].map(|kind| vocabulary.of_kind(kind)).concat();
        Ok(Self {
            model,
            control: ControlTokens::new(control, vocabulary.of_kind(Kind::UserDefined))?,
            special,
            bytes: spell_out(vocabulary, spelling),
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
        self.encode_for(text, Purpose::Text)
    }

    /// Ids of a prompt in which control tokens are read.
    pub(crate) fn encode_with_control(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_for(text, Purpose::Control)
    }

    /// Ids of a rendered conversation: control tokens are read, then `mark` is taken out of the rest.
    pub(crate) fn encode_guarded(&self, text: &str, mark: char) -> Result<Vec<u32>, EngineError> {
        self.encode_for(text, Purpose::Chat { mark })
    }

    fn encode_for(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>, EngineError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(EngineError::TextTooLong { bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
        let mut ids = Vec::new();
        let mut before = None;
        let mut begins = true;
        for part in self.control.cut(text, purpose != Purpose::Text) {
            match part {
                Part::Token(id) => {
                    ids.push(id);
                    (before, begins) = (Some(id), true);
                }
                Part::Text(text) => {
                    let text = match purpose {
                        Purpose::Chat { mark } => Cow::Owned(text.replace(mark, "")),
                        _ => Cow::Borrowed(text),
                    };
                    let text = self.special.strip_after(before, &text);
                    if !text.is_empty() {
                        self.encode_text(text, begins, &mut ids);
                        (before, begins) = (None, false);
                    }
                }
            }
        }
        // A conversation goes on: it has no end yet.
        self.special.put_around(&mut ids, !matches!(purpose, Purpose::Chat { .. }));
        Ok(ids)
    }

    /// `begins` if nothing or a token that was written as text is before it.
    fn encode_text(&self, text: &str, begins: bool, ids: &mut Vec<u32>) {
        match &self.model {
            Model::Bpe(model) => model.encode(text, ids),
            Model::SentencePiece(model) => model.encode(text, begins, ids),
        }
    }

    /// The bytes that a token adds to the text.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    /// The text of `ids`, without the space that encoding put before it.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let first = ids.iter().find(|id| !self.bytes(**id).is_empty());
        let prefixed = match &self.model {
            Model::SentencePiece(model) => {
                model.space_prefix() && !first.is_some_and(|id| self.control.is_user(*id))
            }
            Model::Bpe(_) => false,
        };
        match text.strip_prefix(' ') {
            Some(text) if prefixed => text.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// True if the token ends the answer.
    pub(crate) fn ends(&self, id: u32) -> bool {
        self.special.endings.contains(&id)
    }

    pub(crate) fn control(&self) -> &ControlTokens {
        &self.control
    }

    /// The text of the token that begins a text, for templates.
    pub(crate) fn bos_text(&self) -> &str {
        &self.special.bos_text
    }

    /// The text of the token that ends a text, for templates.
    pub(crate) fn eos_text(&self) -> &str {
        &self.special.eos_text
    }
}

fn spell_out(vocabulary: &Vocabulary<'_>, spelling: Spelling) -> Vec<Box<[u8]>> {
    let letters = bytes::spelling();
    let by_letters = |text: &str| -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            match letters.get(&character) {
                Some(byte) => bytes.push(*byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes.into()
    };
    let spell = |(text, kind): (&String, &Kind)| match kind {
        Kind::Control | Kind::Unknown => Box::default(),
        Kind::UserDefined | Kind::Border => text.as_bytes().into(),
        Kind::Byte => vocabulary::byte_of(text).into_iter().collect(),
        Kind::Normal | Kind::Unused | Kind::Undefined => match spelling {
            Spelling::Bytes => by_letters(text),
            Spelling::Spaces => text.replace(SPACE, " ").into_bytes().into(),
        },
    };
    vocabulary.texts.iter().zip(&vocabulary.kinds).map(spell).collect()
}
