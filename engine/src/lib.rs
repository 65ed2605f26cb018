//! Inference: a GGUF file in, tokens out.
//!
//! [`Engine::load`] checks the file, builds tokenizer and chat template from its metadata and starts one
//! scheduling thread. [`Engine::submit`] never blocks: it hands back a [`Generation`], a stream of
//! [`Event`]s that an async task reads at its own pace. Many requests are computed side by side in one pass
//! of the model over all of them, so that a long prompt never holds up a short one. [`packed`] is what
//! computes them.
//!
//! This crate knows nothing of HTTP, money or chains.

mod backend;
mod constraint;
mod digest;
mod engine;
mod error;
pub mod fork;
mod generation;
pub mod gguf;
mod options;
pub mod packed;
mod request;
mod sampler;
mod scheduler;
mod template;
mod text;
mod tokenizer;
mod tools;

pub use constraint::{CompiledGrammar, Constraint, ConstraintError, Grammar, GrammarError, Next, TokenMask};
pub use digest::digest_file;
pub use engine::{Engine, EngineStats, Health, ModelInfo};
pub use error::{EngineError, GenerationError, SubmitError};
pub use generation::Generation;
pub use gguf::{Gguf, Value};
pub use options::{BackendKind, EngineOptions};
pub use request::{
    ChatMessage, ChatOptions, Event, FinishReason, GenerateRequest, Priority, Sampling, ToolCall, Usage,
};
pub use tools::{ToolCallParser, ToolChoice, ToolFormat, ToolGrammar, ToolPiece};
