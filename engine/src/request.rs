//! What is asked of the engine, and what it answers.

use serde_json::Value;

use crate::GenerationError;

/// One message of a conversation, under the roles that the model's chat template knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChatMessage {
    /// "system", "user", "assistant", "tool", …
    pub role: String,
    /// The message itself. Text that looks like a control token stays text: see
    /// [`crate::Engine::encode_chat`].
    pub content: String,
    /// Of a tool's message: the tool's name. Of others: who speaks. Few templates show it.
    pub name: Option<String>,
    /// Of an assistant's message: the tools that it called.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's message: the call that it answers.
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }
}

/// A tool that the assistant called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id, which the tool's message repeats. A call that a model has just written has none, but for Mistral's.
    pub id: Option<String>,
    /// The function's name.
    pub name: String,
    /// The arguments by name: a JSON object. OpenAI's messages hold it as text: parse it first.
    pub arguments: Value,
}

/// What else a chat template is given.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ChatOptions<'a> {
    /// Tools that the model may call, as OpenAI describes them: `{"type": "function", "function": {"name", "description",
    /// "parameters"}}`. Empty for none.
    pub tools: &'a [Value],
    /// Seconds since 1970, for templates that show the date (`strftime_now`, in UTC). With `None` they show their own
    /// or none, and the same conversation gives the same prompt on every day.
    pub now_s: Option<i64>,
}

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token always (greedy); up to 2.
    pub temperature: f32,
    /// Keep the most likely tokens whose probabilities sum up to this; above 0, up to 1 (all).
    pub top_p: f32,
    /// The same seed with the same prompt and settings gives the same answer, whatever else the engine
    /// computes at the time. `None` draws a fresh one.
    pub seed: Option<u64>,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: None };
}

impl Default for Sampling {
    /// OpenAI's defaults: temperature 1, top_p 1, no seed.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, seed: None }
    }
}

/// Who goes first when all sequences are taken; equals go in the order of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// After everybody else.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before everybody else.
    High,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// Token ids, from [`crate::Engine::encode_chat`] or [`crate::Engine::tokenize`]; at least one.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most; at least 1. `prompt.len() + max_tokens` must fit the context.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends before the first of these texts; at most 16, none empty, each up to 1 KiB.
    pub stop: Vec<String>,
    /// Place in the queue.
    pub priority: Priority,
}

impl GenerateRequest {
    /// A request with sampling by default, no stop strings and normal priority.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            priority: Priority::default(),
        }
    }
}

/// What a [`crate::Generation`] yields: any number of `Prefilled`, then any number of `Token`, then exactly
/// one of `Finished` and `Failed` (which may come at any point), then nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This many more prompt tokens were computed. The first one tells that the request left the queue.
    Prefilled {
        /// Since the last event; they sum up to the prompt's length.
        tokens: usize,
    },
    /// More of the answer. Texts joined are the whole answer; none ends inside a character or holds part of
    /// a stop string.
    Token {
        /// The next piece of the answer; empty at most in the last such event.
        text: String,
        /// Tokens generated since the last event, including those whose text is still held back or was
        /// cut off by a stop string. They sum up to `Usage::completion_tokens`.
        tokens: usize,
    },
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// The answer will not be completed.
    Failed(GenerationError),
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string came.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

impl FinishReason {
    /// OpenAI's name: "stop" or "length".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens of one finished request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated. The token by which a model ends its answer has no text and is not counted.
    pub completion_tokens: usize,
}
