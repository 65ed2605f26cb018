//! What computes an answer: the engine in this process, or something that only pretends to.

mod engine;
mod fleet;
mod instant;

use std::task::{Context, Poll};
use std::time::Instant;

use dividend_engine::{
    ChatMessage, EngineError, Event, GenerateRequest, Grammar, GrammarError, Priority, Sampling, SubmitError,
};

pub use engine::EngineBackend;
pub use fleet::Backends;
pub(crate) use fleet::Served;
pub use instant::InstantBackend;

/// Prompts up to this size take less time to encode than a change of threads.
const LIGHT_BYTES: usize = 4 << 10;

/// What the model is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A conversation, put into the model's own chat template.
    Chat(Vec<ChatMessage>),
    /// Plain text, continued as it stands.
    Text(String),
    /// Token ids of the model, continued as they stand.
    Tokens(Vec<u32>),
}

impl Prompt {
    /// Bytes of text, a bound for the work of encoding it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
        }
    }
}

/// What is asked, but for the limits that depend on who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What the model is asked.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Answers wanted; at least 1.
    pub choices: usize,
    /// Tell how likely each token was, and beside it this many of the most likely ones.
    pub logprobs: Option<usize>,
    /// Each answer ends before the first of these.
    pub stop: Vec<String>,
    /// Each answer ends before the first of these tokens.
    pub stop_tokens: Vec<u32>,
    /// The form that each answer must have.
    pub form: Option<Form>,
}

/// The form of an answer, and the parameter that asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// What is asked for.
    pub grammar: Grammar,
    /// "response_format" or "structured_outputs".
    pub param: &'static str,
}

impl Query {
    /// True if preparing it can take long enough to hold up others on the same thread.
    pub fn is_heavy(&self) -> bool {
        self.form.is_some() || self.prompt.bytes() > LIGHT_BYTES
    }
}

/// A query that its backend has checked, in the form in which it takes it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What to generate; its limits and its place in the queue are not decided yet.
    pub request: GenerateRequest,
    /// The prompt's length in tokens of the model.
    pub tokens: u32,
}

/// Why a query cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The template or the tokenizer refuse the prompt.
    #[error(transparent)]
    Prompt(#[from] EngineError),
    /// A parameter asks for what this model cannot do.
    #[error(transparent)]
    Parameter(#[from] SubmitError),
    /// The form that was asked for is refused.
    #[error(transparent)]
    Form(#[from] GrammarError),
}

/// Answers to be computed.
#[derive(Clone, Debug)]
pub struct Job {
    /// From [`Backend::prepare`] of the same backend.
    pub prepared: Prepared,
    /// Tokens to generate at most for each answer; at least 1.
    pub max_tokens: u32,
    /// Place in the backend's own queue.
    pub priority: Priority,
    /// Who asks: payers get equal parts of the backend while they compete.
    pub tenant: u64,
    /// When the answer is of no use any more.
    pub deadline: Instant,
}

/// Something that computes answers of one model.
pub trait Backend: Send + Sync + 'static {
    /// A word for dashboards and `/v1/models`: "packed", "candle", "instant", …
    fn kind(&self) -> &'static str;

    /// Tokens that prompt and answer may have together.
    fn context_length(&self) -> u32;

    /// Calls that are computed at once; more of them wait in the gateway's queue.
    fn sequences(&self) -> usize;

    /// Encodes the prompt and checks the rest. May take milliseconds per hundred kilobytes; never waits for anything.
    ///
    /// # Errors
    /// As [`PrepareError`] says.
    fn prepare(&self, query: Query) -> Result<Prepared, PrepareError>;

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
