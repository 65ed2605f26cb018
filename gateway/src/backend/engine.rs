//! The engine of this process as a backend.

use std::task::{Context, Poll, ready};

use dividend_engine::{
    Adapter, AdapterError, ChatOptions, Engine, EngineStats, GenerateRequest, Grammar, Health, SubmitError,
    ToolFormat, ToolGrammar,
};

use super::{
    Backend, Conversation, Event, Form, Generation, Job, PrepareError, Prepared, Prompt, Query, ToolChoice,
    Work,
};

/// A model that this process computes itself.
pub struct EngineBackend {
    engine: Engine,
    /// The name of the adapter that the model is, over the engine's base.
    adapter: Option<String>,
}

impl EngineBackend {
    /// Serves with `engine`, as many calls at once as its `EngineOptions::max_sequences` says.
    pub fn new(engine: Engine) -> Self {
        Self { engine, adapter: None }
    }

    /// Serves one of the engine's adapters, by its name. All models over one engine share its places.
    pub fn with_adapter(engine: Engine, name: String) -> Self {
        Self { engine, adapter: Some(name) }
    }

    fn adapter(&self) -> Result<Option<Adapter>, AdapterError> {
        self.adapter.as_deref().map(|name| self.engine.adapters().get(name)).transpose()
    }
}

impl EngineBackend {
    fn tool_format(&self) -> Result<ToolFormat, PrepareError> {
        let missing = "this model's chat template has no tools, or calls them in a way that is not known";
        self.engine.tool_format().ok_or_else(|| PrepareError::Tools(missing.to_owned()))
    }
}

/// The form of an answer that must call a tool.
fn forced(conversation: &Conversation, format: ToolFormat) -> Result<Option<Form>, PrepareError> {
    let choice = match &conversation.tool_choice {
        ToolChoice::None | ToolChoice::Auto => return Ok(None),
        ToolChoice::Required => dividend_engine::ToolChoice::Required,
        ToolChoice::Named(name) => dividend_engine::ToolChoice::Named(name),
    };
    let grammar = ToolGrammar::new(&conversation.tools, choice, format);
    let grammar = grammar.map_err(|error| PrepareError::Tools(error.to_string()))?;
    Ok(Some(Form { grammar: Grammar::Tools(grammar), param: "tools" }))
}

impl Drop for EngineBackend {
    fn drop(&mut self) {
        if let Some(name) = &self.adapter {
            // Another may have taken it away; calls under way keep their version.
            let _ = self.engine.adapters().unload(name);
        }
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

    fn prepares_quickly(&self, query: &Query) -> bool {
        let resident = |name: &String| self.engine.adapters().resident(name).is_some();
        query.is_light() && self.adapter.as_ref().is_none_or(resident)
    }

    fn engine_stats(&self) -> Option<EngineStats> {
        // Those over a shared engine would be counted twice.
        self.adapter.is_none().then(|| self.engine.stats())
    }

    fn prepare(&self, query: Query) -> Result<Prepared, PrepareError> {
        let mut form = query.form;
        let mut tools = None;
        let prompt = match query.prompt {
            Prompt::Chat(conversation) => {
                if !conversation.offered().is_empty() {
                    let format = self.tool_format()?;
                    tools = Some(format);
                    form = forced(&conversation, format)?.or(form);
                }
                let options = ChatOptions { tools: conversation.offered(), now_s: None };
                self.engine.encode_chat_with(&conversation.messages, &options)?
            }
            Prompt::Text(text) => self.engine.tokenize(&text)?,
            Prompt::Tokens(tokens) => tokens,
            Prompt::Inputs { .. } => {
                return Err(PrepareError::Endpoint { does: "generates text", at: "/v1/chat/completions" });
            }
        };
        let tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let compile = |form: Form| self.engine.compile_grammar(&form.grammar);
        let request = GenerateRequest {
            grammar: form.map(compile).transpose()?,
            sampling: query.sampling,
            choices: query.choices,
            logprobs: query.logprobs,
            stop: query.stop,
            stop_tokens: query.stop_tokens,
            adapter: self.adapter()?,
            ..GenerateRequest::new(prompt, 1)
        };
        self.engine.check(&request)?;
        Ok(Prepared { work: Work::Generate(Box::new(request)), tokens, tools })
    }

    fn submit(&self, job: Job) -> Result<Box<dyn Generation>, SubmitError> {
        let Job { prepared, max_tokens, priority, tenant, deadline } = job;
        let Work::Generate(request) = prepared.work else { return Err(super::foreign_work()) };
        let request = GenerateRequest {
            max_tokens: max_tokens as usize,
            priority,
            tenant: Some(tenant),
            deadline: Some(deadline),
            ..*request
        };
        Ok(Box::new(self.engine.submit(request)?))
    }

    fn is_healthy(&self) -> bool {
        !matches!(self.engine.health(), Health::Failed { .. })
    }
}

impl Generation for dividend_engine::Generation {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        use dividend_engine::Event as Computed;
        let event = ready!(dividend_engine::Generation::poll_event(self, cx));
        Poll::Ready(event.map(|event| match event {
            Computed::Prefilled { tokens } => Event::Prefilled(tokens),
            Computed::Token { choice, text, tokens, logprobs } => {
                Event::Text { choice, text, tokens, logprobs }
            }
            Computed::Finished { choice, reason, usage } => {
                Event::Finished { choice, reason, cached_tokens: usage.cached_tokens }
            }
            Computed::Failed(error) => Event::Failed(error),
        }))
    }
}
