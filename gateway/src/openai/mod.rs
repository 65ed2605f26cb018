//! The OpenAI wire format: what is read, what is written, and which parameters are refused by name.

mod answer;
mod chat;
mod completion;
mod embedding;
mod form;
mod logprobs;
mod parameters;
mod parse;
mod stream;
mod tools;

pub(crate) use answer::{Choice, Identity, Shape, Usage, full_answer};
pub(crate) use chat::ChatRequest;
pub(crate) use completion::CompletionRequest;
pub(crate) use embedding::{EmbeddingRequest, Encoding, embeddings};
pub(crate) use parse::parse;
pub(crate) use stream::{ChunkWriter, Counted, End};
pub(crate) use tools::{Part, ToolReader};

use crate::backend::Query;

/// Which events of a stream carry `usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StreamUsage {
    /// None.
    #[default]
    Never,
    /// One of its own after the last piece of the answer (`include_usage`).
    AtEnd,
    /// Every one: what has been counted so far, this event included (`continuous_usage_stats`, vLLM's name).
    Always,
}

/// A request for text or vectors, whichever endpoint it came through, validated as far as is possible without the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    /// A track, `track@n`, or a node id.
    pub model: String,
    pub query: Query,
    /// The caller's limit for each choice; `None` is whatever fits in the context.
    pub max_tokens: Option<u32>,
    pub stream: bool,
    pub stream_usage: StreamUsage,
    pub shape: Shape,
    /// The caller's own name for its end user, written to the trace.
    pub user: Option<String>,
}
