//! How text is cut into words before merging, by the name that the file gives.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::EngineError;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Rules of one family.
pub(super) struct Rules {
    pub(super) cutter: PreTokenizerWrapper,
    /// A word that is a token as it stands is not merged from its letters.
    pub(super) whole_words: bool,
}

/// The rules that `tokenizer.ggml.pre` names. The groups are those of llama.cpp (`llama-vocab.cpp`).
pub(super) fn rules(name: &str) -> Result<Rules, EngineError> {
    let gpt2 = ByteLevel::new(false, true, true);
    match name {
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            let parts = vec![Digits::new(true).into(), gpt2.into()];
            Ok(Rules { cutter: Sequence::new(parts).into(), whole_words: false })
        }
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" => {
            Ok(Rules { cutter: gpt2.into(), whole_words: false })
        }
        "llama3" | "llama-v3" | "llama-bpe" => {
            let pattern = SplitPattern::Regex(LLAMA3.to_owned());
            let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| EngineError::Backend(error.to_string()))?;
            let parts = vec![words.into(), ByteLevel::new(false, true, false).into()];
            Ok(Rules { cutter: Sequence::new(parts).into(), whole_words: true })
        }
        other => Err(EngineError::Unsupported {
            what: "tokenizer.ggml.pre".to_owned(),
            found: format!("{other:?}"),
            supported:
                "smollm, starcoder, refact, command-r, codeshell, exaone, minerva-7b, gpt-2, phi-2, mpt, \
                        olmo, jais, trillion, llama-bpe"
                    .to_owned(),
        }),
    }
}
