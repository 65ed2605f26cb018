//! Grammars over the real model's vocabulary.

mod accepted;
mod refused;
mod simulation;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::Constraints;
use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;

/// The tokenizer of SmolLM2: 49,152 tokens, byte-level.
pub(super) static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let gguf = Gguf::read(&model_path()).expect("the real model is readable");
    Arc::new(Tokenizer::from_gguf(&gguf).expect("the real model's tokenizer is supported"))
});

/// Its tables, built once for all tests.
pub(super) static CONSTRAINTS: LazyLock<Constraints> = LazyLock::new(|| Constraints::new(TOKENIZER.clone()));

fn model_path() -> PathBuf {
    const CACHED: &str = ".cache/models/smollm2-135m-instruct-q4_1.gguf";
    if let Some(path) = std::env::var_os("DIVIDEND_MODEL") {
        return path.into();
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.map(|folder| folder.join(CACHED)).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no {CACHED} above {}: run tools/setup.sh or set DIVIDEND_MODEL", env!("CARGO_MANIFEST_DIR"))
    })
}
