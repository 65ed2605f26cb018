//! What computes an answer: the engine in this process, or something that only pretends to.

mod embedder;
mod engine;
mod fleet;
mod instant;

use std::task::{Context, Poll};
use std::time::Instant;

use dividend_engine::embedding::EmbeddingInput;
use dividend_engine::{
    AdapterError, ChatMessage, EngineError, EngineStats, FinishReason, GenerateRequest, GenerationError,
    Grammar, GrammarError, Priority, Sampling, SubmitError, TokenLogprobs, ToolFormat,
};
use serde_json::Value;

pub use embedder::EmbedderBackend;
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
    Chat(Conversation),
    /// Plain text, continued as it stands.
    Text(String),
    /// Token ids of the model, continued as they stand.
    Tokens(Vec<u32>),
    /// Texts to embed, each by itself.
    Inputs {
        /// The texts or their tokens.
        inputs: Vec<EmbeddingInput>,
        /// Numbers that each vector must have, if the caller says so.
        dimensions: Option<usize>,
    },
}

/// Messages, and the tools that the answer may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// In order.
    pub messages: Vec<ChatMessage>,
    /// As OpenAI describes them.
    pub tools: Vec<Value>,
    /// Whether they may be called, or must be.
    pub tool_choice: ToolChoice,
}

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model does not learn of them.
    None,
    /// As the model decides.
    #[default]
    Auto,
    /// At least one is called.
    Required,
    /// This one is called.
    Named(String),
}

impl Conversation {
    /// Messages without tools.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// The tools that the model learns of.
    pub fn offered(&self) -> &[Value] {
        if self.tool_choice == ToolChoice::None { &[] } else { &self.tools }
    }

    /// Bytes of the messages' text, and about as many for each tool as its description has.
    fn bytes(&self) -> usize {
        let messages: usize = self.messages.iter().map(|message| message.content.len()).sum();
        messages + self.offered().iter().map(|tool| tool.to_string().len()).sum::<usize>()
    }
}

impl Prompt {
    /// The parameter that it came in.
    pub fn param(&self) -> &'static str {
        match self {
            Self::Chat(_) => "messages",
            Self::Text(_) | Self::Tokens(_) => "prompt",
            Self::Inputs { .. } => "input",
        }
    }

    /// Bytes of text, a bound for the work of encoding it.
    pub fn bytes(&self) -> usize {
        let input = |input: &EmbeddingInput| match input {
            EmbeddingInput::Text(text) => text.len(),
            EmbeddingInput::Tokens(tokens) => size_of_val(tokens.as_slice()),
        };
        match self {
            Self::Chat(conversation) => conversation.bytes(),
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
            Self::Inputs { inputs, .. } => inputs.iter().map(input).sum(),
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
    /// A query with everything by default.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            sampling: Sampling::default(),
            choices: 1,
            logprobs: None,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            form: None,
        }
    }

    /// True if encoding it takes less time than a change of threads.
    pub fn is_light(&self) -> bool {
        self.form.is_none() && self.prompt.bytes() <= LIGHT_BYTES
    }
}

/// A query that its backend has checked, in the form in which it takes it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is to be computed.
    pub work: Work,
    /// Tokens of the prompt, or of all inputs together.
    pub tokens: u32,
    /// How calls of tools are written in the answers, if there may be any.
    pub tools: Option<ToolFormat>,
}

/// What is to be computed.
#[derive(Clone, Debug)]
pub enum Work {
    /// Text; the request's limits and its place in the queue are not decided yet.
    Generate(Box<GenerateRequest>),
    /// A vector for each list of token ids.
    Embed(Vec<Vec<u32>>),
}

impl Prepared {
    /// Answers to be generated, each with tokens of its own.
    pub fn choices(&self) -> usize {
        match &self.work {
            Work::Generate(request) => request.choices,
            Work::Embed(_) => 0,
        }
    }
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
    /// The model is not of the kind that the endpoint is for.
    #[error("this model {does}: ask it at {at}")]
    Endpoint {
        /// What it does.
        does: &'static str,
        /// The endpoint that it answers at.
        at: &'static str,
    },
    /// The tools cannot be offered.
    #[error("cannot be honoured: {0}")]
    Tools(String),
    /// The adapter that the model consists of cannot be read.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The form that was asked for is refused.
    #[error(transparent)]
    Form(#[from] GrammarError),
}

/// Answers to be computed.
#[derive(Clone, Debug)]
pub struct Job {
    /// From [`Backend::prepare`] of the same backend.
    pub prepared: Prepared,
    /// Tokens to generate at most for each answer; at least 1, or 0 where nothing is generated.
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

    /// What it is for.
    fn task(&self) -> Task {
        Task::Generate
    }

    /// Whether [`Backend::prepare`] of this query takes no longer than a change of threads.
    fn prepares_quickly(&self, query: &Query) -> bool {
        query.is_light()
    }

    /// The engine's counters, if there is an engine.
    fn engine_stats(&self) -> Option<EngineStats> {
        None
    }

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

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Text from text.
    Generate,
    /// Vectors from texts.
    Embed,
}

/// What a backend computed. Any number of `Prefilled`, then outputs, then one `Finished` for each choice and at least one,
/// then nothing. `Failed` may come at any point and ends all.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// So many more tokens of the prompt were computed.
    Prefilled(usize),
    /// More text of a choice.
    Text {
        /// Which choice, from 0.
        choice: usize,
        /// The text; it may be empty.
        text: String,
        /// Tokens generated since the last event of the choice.
        tokens: usize,
        /// How likely they were, one by one, if that was asked for.
        logprobs: Vec<TokenLogprobs>,
    },
    /// All vectors, in the order of the inputs.
    Vectors(Vec<Vec<f32>>),
    /// A choice is complete.
    Finished {
        /// Which, from 0.
        choice: usize,
        /// Why it ended.
        reason: FinishReason,
        /// Tokens of the prompt that an earlier call had computed.
        cached_tokens: usize,
    },
    /// What is not complete will not be completed.
    Failed(GenerationError),
}

/// An answer being computed. Dropping it cancels the computation.
pub trait Generation: Send {
    /// The next event; `None` after the last one.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>>;
}

/// What a backend says of work that another backend prepared.
fn foreign_work() -> SubmitError {
    SubmitError::Unhealthy { reason: "it was given what another backend prepared".to_owned() }
}
