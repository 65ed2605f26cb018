//! Tokens that the metadata names: what is put around a prompt, and what ends an answer.

use std::collections::HashSet;

use super::vocabulary::{Kind, Vocabulary, flag, token_id};
use crate::EngineError;
use crate::gguf::Gguf;

/// Begin, end and unknown of SentencePiece models whose files do not name them.
const DEFAULT_BOS: u32 = 1;
const DEFAULT_EOS: u32 = 2;
const DEFAULT_UNKNOWN: u32 = 0;

/// The tokens that have a part to play beside the text's own.
#[derive(Debug)]
pub(super) struct Special {
    pub(super) unknown: Option<u32>,
    pub(super) endings: HashSet<u32>,
    pub(super) bos_text: String,
    pub(super) eos_text: String,
    /// Put first.
    bos: Option<u32>,
    /// Put last.
    eos: Option<u32>,
    /// White space after these is left out.
    strip_after: HashSet<u32>,
}

impl Special {
    pub(super) fn of_sentencepiece(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Self, EngineError> {
        let defaults = [Some(DEFAULT_BOS), Some(DEFAULT_EOS), Some(DEFAULT_UNKNOWN)];
        Self::new(gguf, vocabulary, defaults, true)
    }

    /// `adds_bos` if such models begin prompts with a token unless their file says otherwise.
    pub(super) fn of_bpe(
        gguf: &Gguf,
        vocabulary: &Vocabulary<'_>,
        adds_bos: bool,
    ) -> Result<Self, EngineError> {
        Self::new(gguf, vocabulary, [None; 3], adds_bos)
    }

    fn new(
        gguf: &Gguf,
        vocabulary: &Vocabulary<'_>,
        [bos, eos, unknown]: [Option<u32>; 3],
        adds_bos: bool,
    ) -> Result<Self, EngineError> {
        let id = |name: &str, default| {
            token_id(gguf, &format!("tokenizer.ggml.{name}_token_id"), vocabulary.len(), default)
        };
        let (bos, eos, unknown) = (id("bos", bos)?, id("eos", eos)?, id("unknown", unknown)?);
        let text = |id: Option<u32>| id.map(|id| vocabulary.texts[id as usize].clone()).unwrap_or_default();
        let mut endings = vocabulary.endings();
        endings.extend(eos.into_iter().chain(id("eot", None)?).chain(id("eom", None)?));
        Ok(Self {
            unknown,
            endings,
            bos_text: text(bos),
            eos_text: text(eos),
            bos: if flag(gguf, "tokenizer.ggml.add_bos_token", adds_bos)? { bos } else { None },
            eos: if flag(gguf, "tokenizer.ggml.add_eos_token", false)? { eos } else { None },
            strip_after: strip_after(gguf, vocabulary),
        })
    }

    /// The tokens that are put first and last.
    #[cfg(test)]
    pub(super) fn around(&self) -> [Option<u32>; 2] {
        [self.bos, self.eos]
    }

    /// `text` as it is to be encoded after the token `before`.
    pub(super) fn strip_after<'a>(&self, before: Option<u32>, text: &'a str) -> &'a str {
        match before {
            Some(id) if self.strip_after.contains(&id) => {
                text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
            }
            _ => text,
        }
    }

    /// Puts first and, if `ended`, last tokens where the model wants them and the text has not written them.
    pub(super) fn put_around(&self, ids: &mut Vec<u32>, ended: bool) {
        if let Some(bos) = self.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        if let Some(eos) = self.eos
            && ended
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
    }
}

/// Phi-3 was trained without the white space that follows a turn's border in its template. Files say it nowhere but
/// by the model's name.
fn strip_after(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> HashSet<u32> {
    let name = gguf.string("general.name").unwrap_or_default().to_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return HashSet::new();
    }
    let kinds =
        [Kind::Control, Kind::Border, Kind::Unknown, Kind::UserDefined].map(|kind| vocabulary.of_kind(kind));
    let kept = ["<unk>", "<s>", "<|endoftext|>"];
    let tokens = kinds.into_iter().flatten();
    tokens.filter(|(_, text)| !kept.contains(&text.as_str())).map(|(id, _)| id).collect()
}
