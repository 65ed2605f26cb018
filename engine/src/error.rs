//! What can go wrong, each with the value that was wrong and what would be right.

use std::any::Any;
use std::path::PathBuf;

use crate::constraint::ConstraintError;
use crate::gguf::GgufError;
use crate::safetensors::SafeTensorsError;

/// Why a model could not be loaded, or a prompt not prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The file is not there.
    #[error("no model file at {}: fetch it first, or correct the path in the settings", path.display())]
    Missing {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The file is there but cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted: "read", "write".
        action: &'static str,
        /// The file concerned.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The file is not a sound GGUF.
    #[error("{} is not a usable GGUF file: {source}", path.display())]
    Gguf {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// The file is not a sound safetensors file.
    #[error("{} is not a usable safetensors file: {source}", path.display())]
    SafeTensors {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        source: SafeTensorsError,
    },
    /// The file is sound, but describes a model that this engine cannot run.
    #[error("cannot run this model: {what} is {found}; supported: {supported}")]
    Unsupported {
        /// The property that is not supported, usually a metadata key.
        what: String,
        /// Its value in the file.
        found: String,
        /// What would be accepted.
        supported: String,
    },
    /// The metadata contradicts itself or the tensors.
    #[error("the model's {what} is wrong: {detail}")]
    Inconsistent {
        /// The metadata key or tensor.
        what: String,
        /// The value and what it should have been.
        detail: String,
    },
    /// The chat template is missing, malformed, refuses the conversation or runs away.
    #[error("chat template: {0}")]
    Template(String),
    /// Tools were given that cannot be used: the model's template has none, or they are malformed.
    #[error("tools: {0}")]
    Tools(String),
    /// An option of [`crate::EngineOptions`] is out of range.
    #[error("engine option {option} is {found}; it must be {expected}")]
    Option {
        /// The field's name.
        option: &'static str,
        /// Its value.
        found: usize,
        /// The range that is accepted.
        expected: &'static str,
    },
    /// A text is longer than any context could take.
    #[error("the text has {bytes} bytes; at most {limit} can be turned into tokens: send less")]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// The inference library failed on a file that passed every check.
    #[error("inference library: {0}")]
    Backend(String),
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full; the same request may succeed later.
    #[error("the engine's queue is full ({limit} requests are waiting): try again later")]
    QueueFull {
        /// `EngineOptions::queue`.
        limit: usize,
    },
    /// Prompt and answer do not fit the context.
    #[error(
        "{prompt_tokens} prompt tokens and up to {max_tokens} generated tokens exceed the context of \
         {context_length} tokens: shorten the prompt or lower max_tokens"
    )]
    PromptTooLong {
        /// Length of the prompt, in tokens.
        prompt_tokens: usize,
        /// What was asked to be generated.
        max_tokens: usize,
        /// `ModelInfo::context_length`.
        context_length: usize,
    },
    /// An input of an embedding is longer than the model can read. Nothing is cut off silently.
    #[error("input {input} has {tokens} tokens, the model reads at most {limit}: shorten or split it")]
    InputTooLong {
        /// Place of the input in its request, from 0.
        input: usize,
        /// Its length, in tokens, with those that begin and end a text.
        tokens: usize,
        /// The limit, in tokens.
        limit: usize,
    },
    /// A field of the request is out of range. `field` is its OpenAI name.
    #[error("{field} is {found}; it must be {expected}")]
    Invalid {
        /// The field's name: "prompt", "max_tokens", "temperature", "top_p", "stop", "adapter".
        field: &'static str,
        /// Its value.
        found: String,
        /// The range that is accepted.
        expected: String,
    },
    /// The deadline has passed already.
    #[error("the request's deadline has passed already: send it earlier, or with a later one")]
    Late,
    /// The engine has failed too often in a row and takes no more requests: load it again.
    #[error("the engine is out of service: {reason}")]
    Unhealthy {
        /// The last failure.
        reason: String,
    },
}

impl SubmitError {
    /// True if the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::QueueFull { .. } | Self::Unhealthy { .. })
    }
}

/// Why a generation that had been taken ended without finishing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The model's computation panicked; the sequence is lost, the engine goes on.
    #[error("the engine panicked while computing this answer: {0}")]
    Panicked(String),
    /// The inference library returned an error.
    #[error("inference failed: {0}")]
    Backend(String),
    /// The model's answer to this input is no finite number: the model is unsound, or the input beyond what it was made for.
    #[error("the model's answer to this input is not finite")]
    NotFinite,
    /// The deadline passed before the request got a place.
    #[error(
        "the deadline passed while this request waited for its turn: the engine is busy, try again later"
    )]
    ExpiredWaiting,
    /// The deadline passed while the answer was made; what was generated until then has been told.
    #[error(
        "the deadline passed after {generated} tokens of this answer: allow more time, or ask for fewer tokens"
    )]
    Expired {
        /// Tokens generated.
        generated: usize,
    },
    /// The answer could not go on in the form that was asked for.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// The engine was stopped, or gave up, before the answer was complete.
    #[error("the engine stopped before this answer was complete")]
    Stopped,
}

impl GenerationError {
    /// True if this says nothing about the engine: another request would have gone well.
    pub(crate) fn is_the_requests_own(&self) -> bool {
        matches!(self, Self::Constraint(_) | Self::NotFinite)
    }

    /// A caught panic.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked(text.unwrap_or_else(|| "no message".to_owned()))
    }
}
