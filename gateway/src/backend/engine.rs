//! The engine of this process as a backend.

use std::task::{Context, Poll};

use dividend_engine::{Engine, EngineError, Event, GenerateRequest, Health, SubmitError};

use super::{Backend, Generation, Job, Prepared, Prompt};

/// A model that this process computes itself.
pub struct EngineBackend {
    engine: Engine,
}

impl EngineBackend {
    /// Serves with `engine`, as many calls at once as its `EngineOptions::max_sequences` says.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Backend for EngineBackend {
    fn kind(&self) -> &'static str {
        self.engine.info().backend
    }

    fn context_length(&self) -> u32 {
        u32::try_from(self.engine.info().context_length).unwrap_or(u32::MAX)
    }

    fn sequences(&self) -> usize {
        self.engine.stats().max_sequences
    }

    fn prepare(&self, prompt: &Prompt) -> Result<Prepared, EngineError> {
        let ids = match prompt {
            Prompt::Chat(messages) => self.engine.encode_chat(messages)?,
            Prompt::Text(text) => self.engine.tokenize(text)?,
        };
        let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        Ok(Prepared { ids, tokens })
    }

    fn submit(&self, job: Job) -> Result<Box<dyn Generation>, SubmitError> {
        let request = GenerateRequest {
            prompt: job.prompt.ids,
            max_tokens: job.max_tokens as usize,
            sampling: job.sampling,
            stop: job.stop,
            priority: job.priority,
            adapter: None,
        };
        Ok(Box::new(self.engine.submit(request)?))
    }

    fn is_healthy(&self) -> bool {
        !matches!(self.engine.health(), Health::Failed { .. })
    }
}

impl Generation for dividend_engine::Generation {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        dividend_engine::Generation::poll_event(self, cx)
    }
}
