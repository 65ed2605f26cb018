//! Inference: a GGUF file in, tokens out. Vectors come from [`embedding`], scores from [`classifier`].
//!
//! [`Engine::load`] checks the file, builds tokenizer and chat template from its metadata and starts one
//! scheduling thread. [`Engine::submit`] never blocks: it hands back a [`Generation`], a stream of
//! [`Event`]s that an async task reads at its own pace. Many requests are computed side by side in one pass
//! of the model over all of them, so that a long prompt never holds up a short one. [`packed`] is what
//! computes them.
//!
//! This crate knows nothing of HTTP, money or chains.

mod backend;
mod batch;
mod bounded;
pub mod classifier;
mod constraint;
mod digest;
pub mod embedding;
mod engine;
mod error;
mod event;
pub mod fork;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod generation;
pub mod gguf;
mod lora;
mod options;
pub mod packed;
mod request;
pub mod safetensors;
mod sampler;
mod scheduler;
mod template;
mod text;
mod tokenizer;
mod tools;
mod turn;

pub use constraint::{CompiledGrammar, Constraint, ConstraintError, Grammar, GrammarError, Next, TokenMask};
pub use digest::digest_file;
pub use engine::{Engine, EngineStats, Health, Histogram, LoadProgress, ModelInfo, Refused};
pub use error::{EngineError, GenerationError, SubmitError};
pub use event::{Event, FinishReason, TokenLogprob, TokenLogprobs, Usage};
pub use generation::Generation;
pub use gguf::{Gguf, Value};
pub use lora::{Adapter, AdapterError, AdapterInfo, AdapterUsage, Adapters};
pub use options::{BackendKind, EngineOptions, PrefixSharing};
pub use request::{ChatMessage, ChatOptions, GenerateRequest, Priority, Sampling, ToolCall};
pub use tools::{ToolCallParser, ToolChoice, ToolFormat, ToolGrammar, ToolPiece};
