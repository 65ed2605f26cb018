//! How text is cut into words before merging, by the name that the file gives.

use std::ops::Range;

use regex_automata::Input;
use regex_automata::meta::Regex;

use super::families::{Cut, FAMILIES, Family};
use crate::EngineError;

const KEY: &str = "tokenizer.ggml.pre";

/// Runs of white space, as the second pattern of a step.
const SPACES: &str = r"\s+";

/// How a vocabulary writes what is not a printable character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Every byte is spelled by a printable character.
    Bytes,
    /// A space is U+2581, a character without a token becomes `<0xNN>`s.
    Spaces,
}

/// Rules of one family.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) cutter: Cutter,
    /// A word that is a token as it stands is not merged from its letters.
    pub(super) whole_words: bool,
    /// Prompts begin with the token for that, unless the file says otherwise.
    pub(super) adds_bos: bool,
    pub(super) spelling: Spelling,
}

/// Cuts text by one pattern after the other. The patterns have no look-around, so that a text takes linear time whatever
/// it is; the one look-ahead that all such tokenizers need, not to take the last space before a word, is
/// done by hand.
#[derive(Debug)]
pub(super) struct Cutter {
    steps: Vec<Regex>,
}

/// The rules that `tokenizer.ggml.pre` names.
pub(super) fn rules(name: &str) -> Result<Rules, EngineError> {
    let known = |family: &&Family| family.names.contains(&name);
    let family = FAMILIES.iter().find(known).ok_or_else(|| EngineError::Unsupported {
        what: KEY.to_owned(),
        found: format!("{name:?}"),
        supported: FAMILIES.iter().flat_map(|family| family.names).copied().collect::<Vec<_>>().join(", "),
    })?;
    Ok(Rules {
        cutter: Cutter::new(family.cuts)?,
        whole_words: family.whole_words,
        adds_bos: family.adds_bos,
        spelling: family.spelling,
    })
}

impl Cutter {
    fn new(cuts: &[Cut]) -> Result<Self, EngineError> {
        let step = |cut: &Cut| {
            let built = match cut {
                Cut::Only(pattern) => Regex::new(pattern),
                // Of two that match at one place, the first pattern wins.
                Cut::Words(pattern) => Regex::new_many(&[pattern, SPACES]),
            };
            built.map_err(|error| EngineError::Backend(error.to_string()))
        };
        Ok(Self { steps: cuts.iter().map(step).collect::<Result<_, _>>()? })
    }

    /// The words of `text`, in order; together they are the whole text.
    pub(super) fn cut(&self, text: &str) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        if !text.is_empty() {
            words.push(0..text.len());
        }
        for step in &self.steps {
            let mut finer = Vec::with_capacity(words.len());
            for word in words {
                cut_word(step, &text[word.clone()], word.start, &mut finer);
            }
            words = finer;
        }
        words
    }
}

/// Cuts `word`, which begins at `base` in the text.
fn cut_word(step: &Regex, word: &str, base: usize, words: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(found) = step.find(Input::new(word).range(from..)) {
        let mut end = found.end();
        let spaces = found.pattern().as_usize() == 1;
        if spaces && end < word.len() {
            let last = word[..end].char_indices().next_back().map_or(end, |(at, _)| at);
            // A single one stays a word: shortened, it would be none.
            end = if last > found.start() { last } else { end };
        }
        if from < found.start() {
            words.push(base + from..base + found.start());
        }
        words.push(base + found.start()..base + end);
        from = end;
    }
    if from < word.len() {
        words.push(base + from..base + word.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(family: &str, text: &'a str) -> Vec<&'a str> {
        let cutter = rules(family).expect("a known name").cutter;
        cutter.cut(text).into_iter().map(|word| &text[word]).collect()
    }

    #[test]
    fn every_family_keeps_every_character() {
        let text = "  A  b1234'll\r\n\n \t日本語 é\u{301}🙂 x_y(z)  ";
        for family in FAMILIES {
            for name in family.names {
                assert_eq!(words(name, text).concat(), text, "{name}");
                assert!(words(name, "").is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn names_are_listed_once() {
        let mut names: Vec<&str> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_last_space_goes_with_the_word() {
        assert_eq!(words("gpt-2", "a   b \t c  "), ["a", "  ", " b", " \t", " c", "  "]);
        assert_eq!(words("llama-bpe", "a\n\n  b"), ["a", "\n\n", " ", " b"]);
        assert_eq!(words("gpt-2", "\u{a0}x\ty"), ["\u{a0}", "x", "\t", "y"]);
    }

    #[test]
    fn numbers_are_cut_as_each_family_does() {
        assert_eq!(words("llama-bpe", "12345"), ["123", "45"]);
        assert_eq!(words("qwen2", "123"), ["1", "2", "3"]);
        assert_eq!(words("gpt-2", "a 123"), ["a", " 123"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = rules("unheard-of").expect_err("unknown").to_string();
        assert!(error.contains("\"unheard-of\"") && error.contains("llama-bpe, llama3"), "{error}");
    }
}
