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
mod digest;
mod engine;
mod error;
pub mod fork;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
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

pub use digest::digest_file;
pub use engine::{Engine, EngineStats, Health, Histogram, LoadProgress, ModelInfo, Refused};
pub use error::{EngineError, GenerationError, SubmitError};
pub use generation::Generation;
pub use gguf::{Gguf, Value};
pub use options::{BackendKind, EngineOptions, PrefixSharing};
pub use request::{ChatMessage, Event, FinishReason, GenerateRequest, Priority, Sampling, Usage};
