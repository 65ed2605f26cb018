//! What computes an answer: the engine in this process, or something that only pretends to.

mod engine;
mod fleet;
mod instant;

use std::task::{Context, Poll};

use dividend_engine::{ChatMessage, EngineError, Event, Priority, Sampling, SubmitError};

pub use engine::EngineBackend;
pub use fleet::Backends;
pub(crate) use fleet::Served;
pub use instant::InstantBackend;

/// What the model is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A conversation, put into the model's own chat template.
    Chat(Vec<ChatMessage>),
    /// Plain text, continued as it stands.
    Text(String),
}

impl Prompt {
    /// Bytes of text, a bound for the work of encoding it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Self::Text(text) => text.len(),
        }
    }
}

/// A prompt in the form in which its backend takes it, with its exact length.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Token ids, if the backend works on ids.
    pub ids: Vec<u32>,
    /// The prompt's length in tokens of the model.
    pub tokens: u32,
}

/// One answer to be computed. Everything in it was validated against the model.
#[derive(Clone, Debug)]
pub struct Job {
    /// From [`Backend::prepare`] of the same backend.
    pub prompt: Prepared,
    /// Tokens to generate at most; at least 1.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Place in the backend's own queue.
    pub priority: Priority,
}

/// Something that computes answers of one model.
pub trait Backend: Send + Sync + 'static {
    /// A word for dashboards and `/v1/models`: "packed", "candle", "instant", …
    fn kind(&self) -> &'static str;

    /// Tokens that prompt and answer may have together.
    fn context_length(&self) -> u32;

    /// Calls that are computed at once; more of them wait in the gateway's queue.
    fn sequences(&self) -> usize;

    /// Encodes a prompt. May take milliseconds per hundred kilobytes; never waits for anything.
    ///
    /// # Errors
    /// As the model's template or tokenizer refuse the prompt.
    fn prepare(&self, prompt: &Prompt) -> Result<Prepared, EngineError>;

    /// Takes a job, or refuses it at once; never blocks.
    ///
    /// # Errors
    /// As [`SubmitError`] says.
    fn submit(&self, job: Job) -> Result<Box<dyn Generation>, SubmitError>;

    /// Whether a job submitted now has a chance.
    fn is_healthy(&self) -> bool {
        true
    }
}

/// An answer being computed: engine events in the engine's order. Dropping it cancels the computation.
pub trait Generation: Send {
    /// The next event; `None` after the last one.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>>;
}
