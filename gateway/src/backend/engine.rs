//! The engine of this process as a backend.

use std::task::{Context, Poll};

use dividend_engine::{Engine, Event, GenerateRequest, Health, SubmitError};

use super::{Backend, Form, Generation, Job, PrepareError, Prepared, Prompt, Query};

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

    fn prepare(&self, query: Query) -> Result<Prepared, PrepareError> {
        let prompt = match query.prompt {
            Prompt::Chat(messages) => self.engine.encode_chat(&messages)?,
            Prompt::Text(text) => self.engine.tokenize(&text)?,
            Prompt::Tokens(tokens) => tokens,
        };
        let tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let compile = |form: Form| self.engine.compile_grammar(&form.grammar);
        let request = GenerateRequest {
            grammar: query.form.map(compile).transpose()?,
            sampling: query.sampling,
            choices: query.choices,
            logprobs: query.logprobs,
            stop: query.stop,
            stop_tokens: query.stop_tokens,
            ..GenerateRequest::new(prompt, 1)
        };
        self.engine.check(&request)?;
        Ok(Prepared { request, tokens })
    }

    fn submit(&self, job: Job) -> Result<Box<dyn Generation>, SubmitError> {
        let Job { prepared, max_tokens, priority, tenant, deadline } = job;
        let request = GenerateRequest {
            max_tokens: max_tokens as usize,
            priority,
            tenant: Some(tenant),
            deadline: Some(deadline),
            ..prepared.request
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
