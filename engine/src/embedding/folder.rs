//! What a folder in the layout of sentence-transformers says besides the weights.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::Pooling;
use super::config::{Config, MAX_JSON_BYTES, inconsistent, unsupported};
use crate::{EngineError, bounded};

/// Most attention scores of one input, over all heads: 1 GiB.
const MAX_SCORES: usize = 1 << 28;

/// A folder's settings, checked against each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Folder {
    /// Where config, weights and tokenizer are.
    pub(super) transformer: PathBuf,
    pub(super) config: Config,
    pub(super) pooling: Pooling,
    pub(super) normalised: bool,
    /// Tokens that an input may have.
    pub(super) max_tokens: usize,
    /// Texts are put in lower case before the tokenizer sees them.
    pub(super) lowercase: bool,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Prompts {
    default_prompt_name: Option<String>,
}

impl Folder {
    /// Reads the folder at `path`. Inputs may be as long as the model reads, at most `token_cap`.
    pub(super) fn read(path: &Path, token_cap: Option<usize>) -> Result<Self, EngineError> {
        let prompts = "config_sentence_transformers.json";
        let prompts: Prompts =
            bounded::read_optional_json(&path.join(prompts), MAX_JSON_BYTES)?.unwrap_or_default();
        if let Some(name) = prompts.default_prompt_name {
            return Err(unsupported("default_prompt_name", &name, "none: put the prompt before the texts"));
        }
        let modules: Option<Vec<Module>> =
            bounded::read_optional_json(&path.join("modules.json"), MAX_JSON_BYTES)?;
        let (mut transformer, mut pooling, mut normalised) = (path.to_owned(), Pooling::Mean, false);
        for (place, module) in modules.iter().flatten().enumerate() {
            let folder = inside(path, &module.path)?;
            match (place, module.kind.rsplit('.').next()) {
                (0, Some("Transformer")) => transformer = folder,
                (1, Some("Pooling")) => pooling = Pooling::read(&folder.join("config.json"))?,
                (2, Some("Normalize")) => normalised = true,
                _ => {
                    let found = format!("{} at {place}", module.kind);
                    return Err(unsupported(
                        "modules.json",
                        &found,
                        "Transformer, Pooling, Normalize, in this order",
                    ));
                }
            }
        }
        let config = Config::read(&transformer.join("config.json"))?;
        let sentence = transformer.join("sentence_bert_config.json");
        let sentence: SentenceConfig =
            bounded::read_optional_json(&sentence, MAX_JSON_BYTES)?.unwrap_or_default();
        let positions = config.max_position_embeddings;
        let declared = sentence.max_seq_length.unwrap_or(positions);
        if !(1..=positions).contains(&declared) {
            let detail = format!("it is {declared}; the model has {positions} positions");
            return Err(inconsistent("max_seq_length", detail));
        }
        let max_tokens = declared.min(token_cap.unwrap_or(usize::MAX));
        // Both are bounded by the checks of the configuration.
        let scores = config.num_attention_heads * max_tokens * max_tokens;
        if scores > MAX_SCORES {
            let found = format!("{} heads over {max_tokens} tokens", config.num_attention_heads);
            return Err(unsupported(
                "num_attention_heads",
                &found,
                "up to 2^28 attention scores: lower token_cap",
            ));
        }
        Ok(Self { transformer, config, pooling, normalised, max_tokens, lowercase: sentence.do_lower_case })
    }
}

/// A folder below `root`, whatever the file says.
fn inside(root: &Path, path: &str) -> Result<PathBuf, EngineError> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if plain {
        Ok(root.join(path))
    } else {
        Err(unsupported("modules.json", path, "folders below the model's"))
    }
}
