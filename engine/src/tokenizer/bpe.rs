//! GPT-2's BPE: text is cut into words, the words' bytes (or characters) are merged by a list of pairs.

use std::collections::HashMap;

use super::bytes;
use super::merge::{Merge, Merger, NONE, Symbol};
use super::pretokenizer::{Cutter, Rules, Spelling};
use super::sentencepiece::SPACE;
use super::vocabulary::{Vocabulary, inconsistent};
use crate::EngineError;

pub(super) const MERGES: &str = "tokenizer.ggml.merges";

/// Vocabulary and rules of one model.
#[derive(Debug)]
pub(super) struct Bpe {
    cutter: Cutter,
    spelling: Spelling,
    whole_words: bool,
    /// Merges by the ids of the two that merge.
    pairs: HashMap<(u32, u32), Merge>,
    /// Ids by text, where words or characters are looked up whole; empty where not needed.
    ids: HashMap<Box<str>, u32>,
    /// The character that spells each byte, and its id.
    letters: Vec<(char, u32)>,
    /// The token `<0xNN>` of each byte; empty where bytes are spelled by characters.
    byte_ids: Vec<u32>,
}

impl Bpe {
    /// `merges` are pairs with a space between, best first; `unknown` is for bytes that have no token.
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        merges: &[String],
        rules: Rules,
        unknown: Option<u32>,
    ) -> Result<Self, EngineError> {
        let known = vocabulary.ids();
        let letter = |character: char| {
            let id = known.get(character.encode_utf8(&mut [0; 4]) as &str).copied();
            (character, id.filter(|id| vocabulary.is_text(*id)).unwrap_or(NONE))
        };
        let letters = bytes::characters().into_iter().map(letter).collect();
        let raw = rules.spelling == Spelling::Spaces;
        let byte_ids = if raw { vocabulary.byte_ids(unknown)? } else { Vec::new() };
        Ok(Self {
            cutter: rules.cutter,
            spelling: rules.spelling,
            whole_words: rules.whole_words,
            pairs: pairs(vocabulary, &known, merges)?,
            ids: if raw || rules.whole_words { text_ids(vocabulary) } else { HashMap::new() },
            letters,
            byte_ids,
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        match self.spelling {
            Spelling::Bytes => {
                let mut spelled = String::new();
                for word in self.cutter.cut(text) {
                    self.encode_bytes(&text[word], &mut spelled, &mut merger, ids);
                }
            }
            Spelling::Spaces => {
                let text: String = text.chars().map(|c| if c == ' ' { SPACE } else { c }).collect();
                for word in self.cutter.cut(&text) {
                    self.encode_characters(&text[word], &mut merger, ids);
                }
            }
        }
    }

    fn encode_bytes(&self, word: &str, spelled: &mut String, merger: &mut Merger, ids: &mut Vec<u32>) {
        if self.whole_words {
            spelled.clear();
            spelled.extend(word.bytes().map(|byte| self.letters[byte as usize].0));
            if let Some(id) = self.ids.get(spelled.as_str()) {
                ids.push(*id);
                return;
            }
        }
        let letters = word.bytes().zip(0..).map(|(byte, at)| {
            let id = self.letters[byte as usize].1;
            Symbol { start: at, end: at + 1, id }
        });
        // A byte without a token is left out: it cannot be said.
        let keep = |symbol: Symbol| {
            if symbol.id != NONE {
                ids.push(symbol.id);
            }
        };
        merger.merge(letters, |left, right| self.pair(left, right), keep);
    }

    fn encode_characters(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let newlines = word.bytes().all(|byte| byte == b'\n');
        if (self.whole_words || newlines)
            && let Some(id) = self.ids.get(word)
        {
            ids.push(*id);
            return;
        }
        let characters = word.char_indices().map(|(start, character)| {
            let end = start + character.len_utf8();
            let id = self.ids.get(&word[start..end]).copied().unwrap_or(NONE);
            Symbol { start: start as u32, end: end as u32, id }
        });
        merger.merge(
            characters,
            |left, right| self.pair(left, right),
            |symbol| match symbol.id {
                NONE => {
                    let bytes = &word.as_bytes()[symbol.start as usize..symbol.end as usize];
                    ids.extend(bytes.iter().map(|byte| self.byte_ids[*byte as usize]));
                }
                id => ids.push(id),
            },
        );
    }

    fn pair(&self, left: Symbol, right: Symbol) -> Option<Merge> {
        self.pairs.get(&(left.id, right.id)).copied()
    }
}

fn text_ids(vocabulary: &Vocabulary<'_>) -> HashMap<Box<str>, u32> {
    let mut ids = HashMap::with_capacity(vocabulary.len());
    ids.extend(vocabulary.text_tokens().map(|(id, text)| (text.into(), id)));
    ids
}

fn pairs(
    vocabulary: &Vocabulary<'_>,
    known: &HashMap<&str, u32>,
    merges: &[String],
) -> Result<HashMap<(u32, u32), Merge>, EngineError> {
    let mut pairs = HashMap::with_capacity(merges.len());
    let mut joined = String::new();
    for (merge, rank) in merges.iter().zip(0_u32..) {
        // The left text may itself be a space, never empty.
        let border = merge.char_indices().skip(1).find(|(_, character)| *character == ' ');
        let (left, right) = border.map(|(at, _)| (&merge[..at], &merge[at + 1..])).ok_or_else(|| {
            inconsistent(MERGES, format!("{merge:?} is not two texts with a space between"))
        })?;
        joined.clear();
        joined.extend([left, right]);
        let id = |text: &str| {
            known.get(text).copied().ok_or_else(|| {
                inconsistent(MERGES, format!("{merge:?} needs a token {text:?}, which there is not"))
            })
        };
        let (left, right, id) = (id(left)?, id(right)?, id(&joined)?);
        // A merge that makes, or is made of, a control token never happens: text does not become one.
        if [left, right, id].into_iter().all(|id| vocabulary.is_text(id)) {
            pairs.entry((left, right)).or_insert(Merge { priority: NONE - rank, id });
        }
    }
    Ok(pairs)
}
