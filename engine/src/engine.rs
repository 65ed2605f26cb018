//! The handle that the rest of the program holds.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{self, Backend};
use crate::constraint::{CompiledGrammar, Constraint, Constraints, Grammar, GrammarError};
use crate::gguf::Gguf;
use crate::request::{ChatMessage, ChatOptions, GenerateRequest};
use crate::scheduler::{Scheduler, SchedulerLimits};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::tools::ToolFormat;
use crate::{Adapters, EngineError, EngineOptions, Generation, SubmitError};

pub use crate::scheduler::{EngineStats, Health, Histogram, Refused};

/// A loaded model. Clones are handles to the same one; when the last is dropped, the engine finishes the
/// requests that somebody still reads, then its thread ends and its memory is freed.
#[derive(Clone)]
pub struct Engine {
    model: Arc<Model>,
}

struct Model {
    info: ModelInfo,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    constraints: Constraints,
    scheduler: Scheduler,
    adapters: Adapters,
}

/// What is known of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModelInfo {
    /// `general.name` of the file, or the file's stem.
    pub name: String,
    /// `general.architecture`, such as "llama".
    pub architecture: String,
    /// Tokens that prompt and answer may have together: what the model was trained for, what the backend
    /// can do, and the operator's cap, whichever is least.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Which implementation computes: "packed" or "candle".
    pub backend: &'static str,
    /// Whether [`Engine::encode_chat`] can work.
    pub has_chat_template: bool,
    /// Size of the file.
    pub file_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Memory of the weights as they are computed with, in bytes.
    pub weight_bytes: u64,
    /// KV cache of one token of one sequence, in bytes.
    pub kv_bytes_per_token: u64,
    /// KV cache of all sequences together at most, in bytes.
    pub kv_bytes: u64,
}

/// How far loading has come, in bytes of the file's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes that are ready.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Engine {
    /// Loads the GGUF at `path` and starts the engine's thread. Blocks for the time it takes to read the
    /// file, so call it outside an async runtime's threads.
    ///
    /// The file may come from anywhere: header and shapes are checked before anything of the declared size
    /// is allocated, and one token is computed before the engine is handed out.
    pub fn load(path: &Path, options: EngineOptions) -> Result<Self, EngineError> {
        Self::load_with_progress(path, options, |_| {})
    }

    /// The same, telling `progress` how far it has come: first of nothing, then after each megabyte or so, from several
    /// threads but one at a time, and last of all. A model that candle computes goes from nothing to all at once.
    pub fn load_with_progress(
        path: &Path,
        options: EngineOptions,
        progress: impl FnMut(LoadProgress) + Send,
    ) -> Result<Self, EngineError> {
        options.check()?;
        let gguf = Gguf::read(path)?;
        backend::check_family(&gguf)?;
        let mut tokenizer = Tokenizer::from_gguf(&gguf)?;
        let template = ChatTemplate::from_gguf(&gguf, &tokenizer)?;
        let format = template.as_ref().and_then(ChatTemplate::tool_format);
        for mark in format.map_or(&[] as &[&str], ToolFormat::marks) {
            tokenizer.show(mark)?;
        }
        let tokenizer = Arc::new(tokenizer);
        let progress = Progress::new(&gguf, progress);
        let packed = |bytes| progress.advance(bytes);
        let backend = backend::load(path, &gguf, tokenizer.vocab_size(), &options, &packed)?;
        progress.advance(u64::MAX);
        let cap = options.context_cap.unwrap_or(usize::MAX);
        let context_length = backend.context_length().min(cap);
        let info = ModelInfo {
            name: model_name(&gguf, path),
            architecture: gguf.architecture()?.to_owned(),
            context_length,
            vocab_size: tokenizer.vocab_size(),
            backend: backend.name(),
            has_chat_template: template.is_some(),
            file_bytes: gguf.file_bytes(),
            parameters: gguf.parameters(),
            weight_bytes: backend.weight_bytes(),
            kv_bytes_per_token: backend.kv_bytes_per_token(),
            kv_bytes: kv_bytes(&*backend, context_length, options.max_sequences),
        };
        let adapters = Adapters::new(backend.adapter_base(), backend.name(), options.adapter_bytes);
        let limits = SchedulerLimits::new(&options, context_length);
        let scheduler = Scheduler::start(backend, Arc::<Tokenizer>::clone(&tokenizer), limits)?;
        tracing::info!(model = %info.name, bytes = info.file_bytes, context = context_length, "model loaded");
        let constraints = Constraints::new(Arc::clone(&tokenizer));
        let model = Model { info, tokenizer, template, constraints, scheduler, adapters };
        Ok(Self { model: Arc::new(model) })
    }

    /// What is known of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// The conversation as the model's own template lays it out, ready for the assistant's answer. For
    /// reading; [`Engine::encode_chat`] is what to generate from.
    pub fn render_chat(&self, messages: &[ChatMessage]) -> Result<String, EngineError> {
        self.render_chat_with(messages, &ChatOptions::default())
    }

    /// The conversation as token ids, ready for the assistant's answer.
    ///
    /// Control tokens come from the template alone. A message that contains the text of one, such as
    /// `<|im_end|>`, is encoded as that text, so nobody can end his turn and speak as another role.
    pub fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, EngineError> {
        self.encode_chat_with(messages, &ChatOptions::default())
    }

    /// As [`Engine::render_chat`], with tools and the time.
    pub fn render_chat_with(
        &self,
        messages: &[ChatMessage],
        options: &ChatOptions<'_>,
    ) -> Result<String, EngineError> {
        self.template()?.render(messages, options)
    }

    /// As [`Engine::encode_chat`], with tools and the time. Names, descriptions and arguments stay text as messages do.
    pub fn encode_chat_with(
        &self,
        messages: &[ChatMessage],
        options: &ChatOptions<'_>,
    ) -> Result<Vec<u32>, EngineError> {
        self.template()?.encode(messages, options, &self.model.tokenizer)
    }

    /// How the model writes calls of tools; `None` if its template has no tools, or an unknown format.
    pub fn tool_format(&self) -> Option<ToolFormat> {
        self.model.template.as_ref()?.tool_format()
    }

    /// `text` as token ids. Text that looks like a control token stays text.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.model.tokenizer.encode(text)
    }

    /// `text` as token ids, control tokens included: only for text that the operator wrote.
    pub fn tokenize_with_control(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.model.tokenizer.encode_with_control(text)
    }

    /// The text of `tokens`: control tokens and unknown ids have none, broken UTF-8 becomes U+FFFD.
    pub fn detokenize(&self, tokens: &[u32]) -> String {
        self.model.tokenizer.decode(tokens)
    }

    /// Checks and compiles the form that an answer must have, for any number of answers of this model. Blocks for some
    /// milliseconds, at worst for a few seconds: call it outside an async runtime's threads.
    pub fn compile_grammar(&self, grammar: &Grammar) -> Result<CompiledGrammar, GrammarError> {
        self.model.constraints.compile(grammar)
    }

    /// Follows one answer under a grammar that this model compiled, for callers that choose tokens themselves.
    pub fn constrain(&self, grammar: &CompiledGrammar) -> Constraint {
        grammar.start()
    }

    /// Says whether a request asks for something that can never be honoured. Its lengths and the load of the moment are
    /// looked at by [`Engine::submit`] only.
    pub fn check(&self, request: &GenerateRequest) -> Result<(), SubmitError> {
        self.model.scheduler.check(request)
    }

    /// Takes a request, or says at once why not. Never blocks.
    pub fn submit(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        self.model.scheduler.submit(request)
    }

    /// The adapters that requests can name.
    pub fn adapters(&self) -> &Adapters {
        &self.model.adapters
    }

    /// Whether the engine can be relied on.
    pub fn health(&self) -> Health {
        self.model.scheduler.health()
    }

    /// Counters since the start, and the present load.
    pub fn stats(&self) -> EngineStats {
        self.model.scheduler.stats()
    }

    fn template(&self) -> Result<&ChatTemplate, EngineError> {
        self.model.template.as_ref().ok_or_else(|| {
            EngineError::Template("this model's file has none: send a plain prompt instead".to_owned())
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("info", &self.model.info).finish_non_exhaustive()
    }
}

/// What the KV cache of all sequences can grow to.
fn kv_bytes(backend: &dyn Backend, context_length: usize, max_sequences: usize) -> u64 {
    let tokens = match backend.kv() {
        Some(kv) => kv.blocks.saturating_mul(kv.block_tokens),
        None => context_length.saturating_mul(max_sequences),
    };
    backend.kv_bytes_per_token().saturating_mul(tokens as u64)
}

/// Adds up what several threads have packed.
struct Progress<F>(Mutex<(LoadProgress, F)>);

impl<F: FnMut(LoadProgress)> Progress<F> {
    fn new(gguf: &Gguf, mut tell: F) -> Self {
        let total = gguf.tensors().iter().map(|tensor| tensor.bytes).fold(0, u64::saturating_add);
        let none = LoadProgress { done: 0, total };
        tell(none);
        Self(Mutex::new((none, tell)))
    }

    fn advance(&self, bytes: u64) {
        // After a panic of `tell` the figure is as good as before.
        let (progress, tell) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = progress.done.saturating_add(bytes).min(progress.total);
        if done > progress.done {
            progress.done = done;
            tell(*progress);
        }
    }
}

fn model_name(gguf: &Gguf, path: &Path) -> String {
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    gguf.string("general.name").map_or_else(stem, str::to_owned)
}
