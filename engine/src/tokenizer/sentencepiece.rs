//! SentencePiece's BPE: characters are merged into the token of the highest score; a character without a
//! token becomes its bytes.

use std::collections::HashMap;

use super::merge::{Merge, Merger, NONE, Symbol};
use super::vocabulary::Vocabulary;
use crate::EngineError;

/// What stands for a space in such vocabularies.
pub(super) const SPACE: char = '▁';

/// Vocabulary and rules of one model.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, Merge>,
    longest_piece: usize,
    /// One for each byte.
    byte_ids: Vec<u32>,
    /// A space is put before text that begins the prompt or follows a control token.
    space_prefix: bool,
    /// No token has a space after something else, so that what a space begins is merged by itself.
    by_words: bool,
}

impl SentencePiece {
    /// `scores` has one per token; `unknown` is for bytes that have no token.
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        scores: &[f32],
        unknown: Option<u32>,
        space_prefix: bool,
    ) -> Result<Self, EngineError> {
        let mut pieces = HashMap::with_capacity(vocabulary.len());
        let (mut longest_piece, mut by_words) = (0, true);
        for (id, text) in vocabulary.text_tokens() {
            longest_piece = text.len().max(longest_piece);
            by_words &= !text.trim_start_matches(SPACE).contains(SPACE);
            pieces.insert(Box::from(text), Merge { priority: priority(scores[id as usize]), id });
        }
        Ok(Self { pieces, longest_piece, by_words, byte_ids: vocabulary.byte_ids(unknown)?, space_prefix })
    }

    pub(super) fn space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// Appends the ids of `text`; `begins` if nothing or a control token is before it.
    pub(super) fn encode(&self, text: &str, begins: bool, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 2);
        if begins && self.space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|character| if character == ' ' { SPACE } else { character }));
        let mut merger = Merger::default();
        let mut rest = escaped.as_str();
        while !rest.is_empty() {
            let (word, after) = rest.split_at(self.word_end(rest));
            self.encode_word(word, &mut merger, ids);
            rest = after;
        }
    }

    /// Length of what can be merged alone: spaces, then other characters.
    fn word_end(&self, text: &str) -> usize {
        if !self.by_words {
            return text.len();
        }
        let word = text.trim_start_matches(SPACE);
        word.find(SPACE).map_or(text.len(), |end| text.len() - word.len() + end)
    }

    fn encode_word(&self, text: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let characters = text.char_indices().map(|(start, character)| {
            let end = start + character.len_utf8();
            let id = self.pieces.get(&text[start..end]).map_or(NONE, |piece| piece.id);
            Symbol { start: start as u32, end: end as u32, id }
        });
        let pair = |left: Symbol, right: Symbol| {
            let joined = left.start as usize..right.end as usize;
            if joined.len() > self.longest_piece { None } else { self.pieces.get(&text[joined]).copied() }
        };
        merger.merge(characters, pair, |symbol| match symbol.id {
            NONE => {
                let bytes = &text.as_bytes()[symbol.start as usize..symbol.end as usize];
                ids.extend(bytes.iter().map(|byte| self.byte_ids[*byte as usize]));
            }
            id => ids.push(id),
        });
    }
}

/// A number that orders as the score does: that of f32, with both zeros the same.
fn priority(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::priority;

    #[test]
    fn priorities_order_as_scores() {
        let scores =
            [f32::NEG_INFINITY, -1e9, -2.0, -1.0, -f32::MIN_POSITIVE, 0.0, 1e-30, 5.0, f32::INFINITY];
        assert!(scores.windows(2).all(|pair| priority(pair[0]) < priority(pair[1])));
        assert_eq!(priority(-0.0), priority(0.0));
    }
}
