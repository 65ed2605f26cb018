//! What is asked of the engine.

use std::time::Instant;

use serde_json::Value;

use crate::{Adapter, CompiledGrammar};

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

/// How the next token is chosen: penalties and bias change the logits, the temperature divides them, then `top_k`, `min_p`
/// and `top_p` each narrow what is drawn from, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token always (greedy); up to 2.
    pub temperature: f32,
    /// Keep the most likely tokens, so many; 0 keeps all.
    pub top_k: u32,
    /// Keep the tokens that are at least this likely in proportion to the most likely one; 0 (all) to 1.
    pub min_p: f32,
    /// Keep the most likely tokens whose probabilities sum up to this; above 0, up to 1 (all).
    pub top_p: f32,
    /// Tokens of prompt and answer are made less likely: their logits are divided by this where positive and multiplied where
    /// negative; above 0, up to 10; 1 changes nothing, less than 1 makes them more likely.
    pub repetition_penalty: f32,
    /// Taken once from the logit of each token of the answer; from -2 to 2.
    pub presence_penalty: f32,
    /// Taken from the logit of each token of the answer, as often as it is there; from -2 to 2.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens; from -100 (never) to 100 (always); each token once, at most 1,024.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed with the same prompt and settings gives the same answer, whatever else the engine
    /// computes at the time. `None` draws a fresh one.
    pub seed: Option<u64>,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self::at(0.0);

    /// The model's own distribution at a temperature.
    const fn at(temperature: f32) -> Self {
        Self {
            temperature,
            top_k: 0,
            min_p: 0.0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl Default for Sampling {
    /// OpenAI's defaults: the model's own distribution, no seed.
    fn default() -> Self {
        Self::at(1.0)
    }
}

/// Who goes first when all sequences are taken. Among the requests of one tenant this is an order; between tenants it
/// decides how much each gets while they compete: a token of high priority counts half as much as one of normal, and one
/// of low twice as much. Of eight turns one goes to whoever has waited longest, so that low priority is never for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// After the others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the others.
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
    /// Answers to the same prompt, drawn one by one: the first with the seed, the next with the seed + 1, and so on. At most
    /// half of [`crate::EngineStats::max_sequences`]. The prompt is computed once where the backend shares what begins alike.
    pub choices: usize,
    /// Tell how likely each token was, and beside it this many of the most likely ones; at most 20.
    pub logprobs: Option<usize>,
    /// The answer ends before the first of these texts; at most 16, none empty, each up to 256 bytes.
    pub stop: Vec<String>,
    /// The answer ends before the first of these tokens, as before those by which the model ends it; at most 64.
    pub stop_tokens: Vec<u32>,
    /// The form that each answer must have, from [`crate::Engine::compile_grammar`] of the same engine.
    pub grammar: Option<CompiledGrammar>,
    /// Place in the queue.
    pub priority: Priority,
    /// Who asks, as a number that is the same for all his requests, such as a hash of his address. Tenants get equal parts
    /// of the engine while they compete; all requests without this are one tenant's.
    pub tenant: Option<u64>,
    /// When the answer is of no use any more. A request that still waits then, or is being computed, ends with an error of
    /// its own; of requests that are equal otherwise, the one with the earliest deadline goes first.
    pub deadline: Option<Instant>,
    /// The version of an adapter that the answer is computed with, from [`crate::Adapters`]; `None` for the base alone.
    pub adapter: Option<Adapter>,
}

impl GenerateRequest {
    /// A request for one answer of the base alone, with sampling by default, nothing that ends it early, and normal
    /// priority.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            sampling: Sampling::default(),
            choices: 1,
            logprobs: None,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            grammar: None,
            priority: Priority::default(),
            tenant: None,
            deadline: None,
            adapter: None,
        }
    }
}
