//! Tokens that are written as one piece of text: finding them, and keeping a stranger's text from being
//! taken for one.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::EngineError;

/// The texts of control tokens (turn borders, end of text) and of user-defined ones (whole words that the
/// model's makers added).
#[derive(Debug)]
pub(crate) struct ControlTokens {
    /// Control tokens only, for guarding: every occurrence counts, overlapping ones too.
    control: AhoCorasick,
    control_texts: Vec<String>,
    user: Finder,
    all: Finder,
}

/// Longest match first, from the left.
#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl ControlTokens {
    /// `control` and `user` are ids with their texts. A control token of one character is left out: it could not
    /// be told from a message's text.
    pub(super) fn new(
        mut control: Vec<(u32, String)>,
        user: Vec<(u32, String)>,
    ) -> Result<Self, EngineError> {
        control.retain(|(_, text)| text.chars().nth(1).is_some());
        let control_texts: Vec<String> = control.iter().map(|(_, text)| text.clone()).collect();
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&control_texts);
        Ok(Self {
            control: automaton.map_err(backend)?,
            control_texts,
            user: Finder::new(&user)?,
            all: Finder::new(&[control, user].concat())?,
        })
    }

    /// Cuts `text` at tokens: user-defined ones always, control tokens if `control`.
    pub(super) fn cut<'a>(&self, text: &'a str, control: bool) -> Vec<Part<'a>> {
        if control { self.all.cut(text) } else { self.user.cut(text) }
    }

    /// True if the token is a user-defined one.
    pub(super) fn is_user(&self, id: u32) -> bool {
        self.user.ids.contains(&id)
    }

    /// `text` with `mark` set so that no control token can be read in it, nor completed at its edges by
    /// what a template puts before or after it. Taking the mark out gives `text` again.
    pub(crate) fn guard(&self, text: &str, mark: char) -> String {
        // A set: where tokens overlap, many begin at one place.
        let mut places: BTreeSet<usize> = BTreeSet::new();
        for found in self.control.find_overlapping_iter(text) {
            places.insert(after_first_character(text, found.start()));
        }
        let (start, end) = (text.len() - text.trim_start().len(), text.trim_end().len());
        let body = text.trim();
        let shares_edge =
            |edge: fn(&str, &str) -> bool| self.control_texts.iter().any(|token| edge(body, token));
        if !body.is_empty() && shares_edge(begins_with_an_end_of) {
            places.insert(start);
        }
        if !body.is_empty() && shares_edge(ends_with_a_beginning_of) {
            places.insert(end);
        }
        let mut guarded = String::with_capacity(text.len() + places.len() * mark.len_utf8());
        let mut from = 0;
        for place in places {
            guarded.push_str(&text[from..place]);
            guarded.push(mark);
            from = place;
        }
        guarded.push_str(&text[from..]);
        guarded
    }
}

impl Finder {
    fn new(tokens: &[(u32, String)]) -> Result<Self, EngineError> {
        let texts = tokens.iter().map(|(_, text)| text);
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
        Ok(Self { automaton: automaton.map_err(backend)?, ids: tokens.iter().map(|(id, _)| *id).collect() })
    }

    fn cut<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut from = 0;
        for found in self.automaton.find_iter(text) {
            if from < found.start() {
                parts.push(Part::Text(&text[from..found.start()]));
            }
            parts.push(Part::Token(self.ids[found.pattern().as_usize()]));
            from = found.end();
        }
        if from < text.len() {
            parts.push(Part::Text(&text[from..]));
        }
        parts
    }
}

fn after_first_character(text: &str, start: usize) -> usize {
    start + text[start..].chars().next().map_or(0, char::len_utf8)
}

/// True if `body` begins with a proper end of `token`, or lies inside one.
fn begins_with_an_end_of(body: &str, token: &str) -> bool {
    let mut ends = token.char_indices().skip(1).map(|(index, _)| &token[index..]);
    ends.any(|end| body.starts_with(end) || end.starts_with(body))
}

/// True if `body` ends with a proper beginning of `token`.
fn ends_with_a_beginning_of(body: &str, token: &str) -> bool {
    token.char_indices().skip(1).any(|(index, _)| body.ends_with(&token[..index]))
}

fn backend(error: aho_corasick::BuildError) -> EngineError {
    EngineError::Backend(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: char = '\u{fdd0}';

    fn tokens() -> ControlTokens {
        let control =
            vec![(1, "<|im_start|>".to_owned()), (2, "<|im_end|>".to_owned()), (3, "aab".to_owned())];
        ControlTokens::new(control, vec![(9, "<word>".to_owned())]).expect("few short texts")
    }

    fn control_ids(tokens: &ControlTokens, text: &str) -> Vec<u32> {
        let id = |part| match part {
            Part::Token(id) if id != 9 => Some(id),
            _ => None,
        };
        tokens.cut(text, true).into_iter().filter_map(id).collect()
    }

    #[test]
    fn cuts_control_tokens_only_when_asked() {
        let text = "a<|im_end|><word>b";
        assert_eq!(
            tokens().cut(text, true),
            [Part::Text("a"), Part::Token(2), Part::Token(9), Part::Text("b")]
        );
        assert_eq!(tokens().cut(text, false), [Part::Text("a<|im_end|>"), Part::Token(9), Part::Text("b")]);
    }

    #[test]
    fn tokens_completed_by_the_surroundings_are_not_taken() {
        let tokens = tokens();
        let around = format!("<|im_{}end|>", tokens.guard("  ", MARK));
        assert_eq!(control_ids(&tokens, &around), [] as [u32; 0]);
        for (before, message, after) in
            [("<|im_", "end|>", ""), ("", "<|im_end|", ">"), ("<", "|im_end|", ">")]
        {
            let joined = format!("{before}{}{after}", tokens.guard(message, MARK));
            assert_eq!(control_ids(&tokens, &joined), [] as [u32; 0], "{joined:?}");
        }
    }

    proptest! {
        #[test]
        fn a_guarded_text_holds_no_control_token_and_reads_the_same(text in "(<\\|im_end\\|>|<\\|im_start\\|>|aab|<|\\||a|b|im_end|é| ){0,12}") {
            let tokens = tokens();
            let guarded = tokens.guard(&text, MARK);
            prop_assert_eq!(control_ids(&tokens, &guarded), Vec::<u32>::new());
            prop_assert_eq!(guarded.replace(MARK, ""), text);
        }
    }
}
