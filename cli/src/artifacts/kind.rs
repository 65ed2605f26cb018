//! What an artifact is, by what it consists of.

use std::path::Path;

use dividend_engine::embedding::{Embedder, EmbedderOptions};
use dividend_engine::{Engine, EngineOptions};

use crate::failure::{Failure, OrFail};

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A GGUF file: a language model.
    Gguf,
    /// A folder as PEFT writes it: a patch of the model's first parent.
    Adapter,
    /// A folder as sentence-transformers writes it: a model of vectors.
    Embedder,
}

impl Kind {
    /// The kind of the artifact at `path`.
    ///
    /// # Errors
    /// A [`Failure`] if it is of none.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        let has = |name: &str| path.join(name).is_file();
        match path {
            _ if !path.is_dir() => Ok(Self::Gguf),
            _ if has("adapter_config.json") => Ok(Self::Adapter),
            _ if has("config.json") && has("model.safetensors") => Ok(Self::Embedder),
            _ => Err(Failure::new(
                format!("{} is a folder of no known kind", path.display()),
                "give a GGUF file, a LoRA adapter (adapter_config.json, adapter_model.safetensors) or a BERT model \
                 (config.json, model.safetensors, tokenizer.json)",
            )
            .into()),
        }
    }
}

/// Refuses an artifact that the engine cannot run, before it is registered for ever: it is loaded once. `base` is that of an
/// adapter, where it is here.
pub(crate) fn check(path: &Path, base: Option<&Path>) -> anyhow::Result<()> {
    let named = || format!("artifact {}", path.display());
    match Kind::of(path)? {
        Kind::Gguf => {
            let remedy = "give the path of a whole GGUF file of a supported family";
            Engine::load(path, EngineOptions::default()).or_fail(named(), remedy).map(|_| ())
        }
        Kind::Embedder => {
            let remedy = "give the folder of a whole BERT model";
            Embedder::load(path, EmbedderOptions::default()).or_fail(named(), remedy).map(|_| ())
        }
        Kind::Adapter => {
            let Some(base) = base else {
                let message = format!("{}: the model file of its first parent is not in the home", named());
                return Err(Failure::new(message, "register the base from this home first").into());
            };
            let engine =
                Engine::load(base, EngineOptions::default()).or_fail(base.display(), "fetch it again")?;
            let remedy = "give an adapter that was trained for its first parent";
            engine.adapters().load("checked", path).or_fail(named(), remedy).map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(folder.path().join(name), "{}").unwrap();
        assert!(Kind::of(folder.path()).unwrap_err().to_string().contains("no known kind"));
        put("config.json");
        put("model.safetensors");
        assert_eq!(Kind::of(folder.path()).unwrap(), Kind::Embedder);
        put("adapter_config.json");
        assert_eq!(Kind::of(folder.path()).unwrap(), Kind::Adapter);
        assert_eq!(Kind::of(&folder.path().join("config.json")).unwrap(), Kind::Gguf);
    }
}
