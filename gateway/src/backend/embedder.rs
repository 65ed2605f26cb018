//! An embedding model of this process as a backend.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use dividend_engine::embedding::{Embedder, Embedding, EmbeddingInput};
use dividend_engine::{FinishReason, Health, SubmitError};

use super::{Backend, Event, Generation, Job, PrepareError, Prepared, Prompt, Query, Task, Work};

/// Requests that its thread takes inputs from at a time.
const SEQUENCES: usize = 64;

/// A model of vectors that this process computes itself.
pub struct EmbedderBackend {
    embedder: Embedder,
}

impl EmbedderBackend {
    /// Serves with `embedder`.
    pub fn new(embedder: Embedder) -> Self {
        Self { embedder }
    }

    fn inputs(&self, prompt: Prompt) -> Result<Vec<EmbeddingInput>, PrepareError> {
        let Prompt::Inputs { inputs, dimensions } = prompt else {
            return Err(PrepareError::Endpoint { does: "embeds texts", at: "/v1/embeddings" });
        };
        let found = self.embedder.info().dimensions;
        match dimensions.filter(|asked| *asked != found) {
            Some(asked) => Err(PrepareError::Parameter(SubmitError::Invalid {
                field: "dimensions",
                found: asked.to_string(),
                expected: format!("{found}, which is what this model has"),
            })),
            None => Ok(inputs),
        }
    }
}

impl Backend for EmbedderBackend {
    fn kind(&self) -> &'static str {
        self.embedder.info().backend
    }

    fn context_length(&self) -> u32 {
        u32::try_from(self.embedder.info().max_tokens).unwrap_or(u32::MAX)
    }

    fn sequences(&self) -> usize {
        SEQUENCES
    }

    fn task(&self) -> Task {
        Task::Embed
    }

    fn prepare(&self, query: Query) -> Result<Prepared, PrepareError> {
        let inputs = self.inputs(query.prompt)?;
        let encoded = self.embedder.encode(inputs)?;
        let tokens: usize = encoded.iter().map(Vec::len).sum();
        Ok(Prepared {
            work: Work::Embed(encoded),
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            tools: None,
        })
    }

    fn submit(&self, job: Job) -> Result<Box<dyn Generation>, SubmitError> {
        let Work::Embed(inputs) = job.prepared.work else { return Err(super::foreign_work()) };
        let inputs = inputs.into_iter().map(EmbeddingInput::Tokens).collect();
        let tokens = job.prepared.tokens as usize;
        Ok(Box::new(Vectors::Computing { embedding: self.embedder.submit(inputs)?, tokens }))
    }

    fn is_healthy(&self) -> bool {
        !matches!(self.embedder.health(), Health::Failed { .. })
    }
}

/// The vectors of one call on their way.
enum Vectors {
    Computing {
        embedding: Embedding,
        tokens: usize,
    },
    /// The tokens were told of.
    Computed(Vec<Vec<f32>>),
    /// So were the vectors.
    Told,
    Over,
}

impl Generation for Vectors {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let (event, next) = match std::mem::replace(self, Self::Over) {
            Self::Computing { mut embedding, tokens } => match Pin::new(&mut embedding).poll(cx) {
                Poll::Pending => {
                    *self = Self::Computing { embedding, tokens };
                    return Poll::Pending;
                }
                Poll::Ready(Ok(vectors)) => (Some(Event::Prefilled(tokens)), Self::Computed(vectors)),
                Poll::Ready(Err(error)) => (Some(Event::Failed(error)), Self::Over),
            },
            Self::Computed(vectors) => (Some(Event::Vectors(vectors)), Self::Told),
            Self::Told => {
                let reason = FinishReason::Stop;
                (Some(Event::Finished { choice: 0, reason, cached_tokens: 0 }), Self::Over)
            }
            Self::Over => (None, Self::Over),
        };
        *self = next;
        Poll::Ready(event)
    }
}
