//! What the engine answers.

use crate::GenerationError;

/// What a [`crate::Generation`] yields: any number of `Prefilled`, then any number of `Token`, then one `Finished` for each
/// choice, then nothing. `Failed` may come at any point and ends all choices.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// This many more prompt tokens were computed. The first one tells that the request left the queue.
    Prefilled {
        /// Since the last event; they sum up to the prompt's length.
        tokens: usize,
    },
    /// More of the answer. Texts joined are the whole answer; none ends inside a character or holds part of
    /// a stop string.
    Token {
        /// Which answer, from 0.
        choice: usize,
        /// The next piece of the answer; empty at most in the last such event.
        text: String,
        /// Tokens generated since the last event, including those whose text is still held back or was
        /// cut off by a stop string. They sum up to `Usage::completion_tokens`.
        tokens: usize,
        /// How likely those tokens were, one by one, if that was asked for.
        logprobs: Vec<TokenLogprobs>,
    },
    /// An answer is complete.
    Finished {
        /// Which, from 0.
        choice: usize,
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// What is not complete will not be completed.
    Failed(GenerationError),
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string or token came.
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

/// How likely a token was, by the model's own distribution: before penalties, bias, temperature and narrowing.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub chosen: TokenLogprob,
    /// The most likely ones, the first being the most likely, as many as were asked for.
    pub top: Vec<TokenLogprob>,
}

/// One token and the natural logarithm of its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// Its id.
    pub token: u32,
    /// Its bytes; they need not be whole characters. None for a control token.
    pub bytes: Vec<u8>,
    /// At most 0; `-inf` where the model's logit is not finite.
    pub logprob: f32,
}

/// Tokens of one finished answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were found computed, from an earlier request that began alike.
    pub cached_tokens: usize,
    /// Tokens generated. The token by which a model ends its answer has no text and is not counted.
    pub completion_tokens: usize,
}
