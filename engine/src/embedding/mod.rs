//! Embeddings: a folder of a BERT model in, one vector per text out.
//!
//! [`Embedder::load`] checks the files, builds the tokenizer and starts one thread. [`Embedder::submit`] never blocks: it
//! hands back an [`Embedding`], a future. Texts of the same length are computed together, without padding, so a vector
//! depends on its own text alone.
//!
//! The folder is laid out as sentence-transformers writes it: `config.json`, `model.safetensors`, `tokenizer.json` or
//! `vocab.txt`; `modules.json`, `1_Pooling/config.json` and `sentence_bert_config.json` where they differ from the defaults
//! (mean of all tokens, not normalised, as many tokens as the model has positions).

mod config;
mod folder;
mod model;
mod pooling;
mod tokenizer;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use crate::batch::BatchStats;
use crate::batch::{Limits, Pending, Service};
use crate::{EngineError, GenerationError, Health, SubmitError};
use folder::Folder;
use model::Encoder;
pub use pooling::Pooling;
use tokenizer::TextTokenizer;

/// Bytes of text that are tokenised, per token that an input may have: several times what any language takes.
const BYTES_PER_TOKEN: usize = 256;

/// Limits of one embedder. All have defaults: `EmbedderOptions { queue: 16, ..EmbedderOptions::default() }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderOptions {
    /// Requests that may wait; 1 to 65,536. The next one is refused with `QueueFull`.
    pub queue: usize,
    /// Inputs of one request; 1 to 65,536.
    pub max_inputs: usize,
    /// Tokens of all inputs of one request; 1 to 2^24. Bounds what a request can hold in memory.
    pub max_request_tokens: usize,
    /// Tokens computed in one step, unless one input alone has more; 1 to 65,536.
    pub step_tokens: usize,
    /// Upper bound of an input, in tokens, below what the model reads; `None` for all it reads.
    pub token_cap: Option<usize>,
}

impl Default for EmbedderOptions {
    fn default() -> Self {
        Self { queue: 64, max_inputs: 2_048, max_request_tokens: 300_000, step_tokens: 512, token_cap: None }
    }
}

impl EmbedderOptions {
    fn check(&self) -> Result<(), EngineError> {
        let within = |option, found, high, expected| {
            if (1..=high).contains(&found) {
                return Ok(());
            }
            Err(EngineError::Option { option, found, expected })
        };
        within("queue", self.queue, 65_536, "from 1 to 65536")?;
        within("max_inputs", self.max_inputs, 65_536, "from 1 to 65536")?;
        within("max_request_tokens", self.max_request_tokens, 1 << 24, "from 1 to 2^24")?;
        within("step_tokens", self.step_tokens, 65_536, "from 1 to 65536")?;
        within("token_cap", self.token_cap.unwrap_or(1), usize::MAX, "at least 1")
    }
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbeddingInput {
    /// A text, of up to 256 bytes per token that an input may have.
    Text(String),
    /// Token ids, computed as they are: [`Embedder::tokenize`] gives those of a text.
    Tokens(Vec<u32>),
}

/// What is known of a loaded embedder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EmbedderInfo {
    /// The folder's name.
    pub name: String,
    /// "bert".
    pub architecture: String,
    /// Numbers of a vector.
    pub dimensions: usize,
    /// Tokens that an input may have.
    pub max_tokens: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// How a vector is made from the tokens' vectors.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalised: bool,
    /// Which implementation computes: "candle".
    pub backend: &'static str,
    /// Size of the weights' file.
    pub file_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
}

/// A loaded model. Clones are handles to the same one; when the last is dropped, what was taken is finished, then the
/// thread ends and the memory is freed.
#[derive(Clone)]
pub struct Embedder {
    model: Arc<Loaded>,
}

struct Loaded {
    info: EmbedderInfo,
    options: EmbedderOptions,
    tokenizer: TextTokenizer,
    service: Service<Encoder>,
}

impl Embedder {
    /// Loads the model in the folder `path` and starts its thread. Blocks for the time it takes to read the files, so call
    /// it outside an async runtime's threads.
    ///
    /// The files may come from anywhere: sizes are checked before anything of them is allocated, and one token is computed
    /// before the embedder is handed out.
    pub fn load(path: &Path, options: EmbedderOptions) -> Result<Self, EngineError> {
        options.check()?;
        let folder = Folder::read(path, options.token_cap)?;
        let tokenizer = TextTokenizer::load(&folder)?;
        let encoder = Encoder::load(&folder)?;
        let info = EmbedderInfo {
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            architecture: "bert".to_owned(),
            dimensions: folder.config.hidden_size,
            max_tokens: folder.max_tokens,
            vocab_size: folder.config.vocab_size,
            pooling: folder.pooling,
            normalised: folder.normalised,
            backend: "candle",
            file_bytes: encoder.file_bytes(),
            parameters: encoder.parameters(),
        };
        let limits = Limits { queue: options.queue, budget: options.step_tokens };
        let service = Service::start("embedder", encoder, limits)?;
        tracing::info!(model = %info.name, bytes = info.file_bytes, dimensions = info.dimensions, "model loaded");
        Ok(Self { model: Arc::new(Loaded { info, options, tokenizer, service }) })
    }

    /// What is known of the model.
    pub fn info(&self) -> &EmbedderInfo {
        &self.model.info
    }

    /// `text` as token ids, with those that begin and end it. As in the reference, text that looks like a control token is
    /// one.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.model.tokenizer.encode(text)
    }

    /// The token ids of each input of a request, checked: what [`Embedder::submit`] would compute.
    pub fn encode(&self, inputs: Vec<EmbeddingInput>) -> Result<Vec<Vec<u32>>, SubmitError> {
        let options = &self.model.options;
        if inputs.is_empty() || inputs.len() > options.max_inputs {
            let expected = format!("a list of 1 to {} inputs", options.max_inputs);
            return Err(invalid(format!("a list of {}", inputs.len()), expected));
        }
        let (mut sequences, mut total) = (Vec::with_capacity(inputs.len()), 0);
        for (place, input) in inputs.into_iter().enumerate() {
            let tokens = self.tokens(place, input)?;
            total += tokens.len();
            if total > options.max_request_tokens {
                let found = format!("of more than {} tokens in all", options.max_request_tokens);
                return Err(invalid(found, "split into several requests".to_owned()));
            }
            sequences.push(tokens);
        }
        Ok(sequences)
    }

    /// Takes a request, or says at once why not. Computes nothing but token ids, and never waits.
    pub fn submit(&self, inputs: Vec<EmbeddingInput>) -> Result<Embedding, SubmitError> {
        let sequences = self.encode(inputs)?;
        let tokens = sequences.iter().map(Vec::len).collect();
        Ok(Embedding { vectors: self.model.service.submit(sequences)?, tokens })
    }

    /// Whether the embedder can be relied on.
    pub fn health(&self) -> Health {
        self.model.service.health()
    }

    /// Counters since the start, and the present load; units are tokens.
    pub fn stats(&self) -> BatchStats {
        self.model.service.stats()
    }

    /// The checked token ids of the input at `place`.
    fn tokens(&self, place: usize, input: EmbeddingInput) -> Result<Vec<u32>, SubmitError> {
        let Loaded { info, tokenizer, .. } = &*self.model;
        let tokens = match input {
            EmbeddingInput::Tokens(tokens) => tokens,
            EmbeddingInput::Text(text) if text.len() > info.max_tokens.saturating_mul(BYTES_PER_TOKEN) => {
                let found = format!("holding a text of {} bytes at {place}", text.len());
                let limit = info.max_tokens.saturating_mul(BYTES_PER_TOKEN);
                return Err(invalid(found, format!("of texts of up to {limit} bytes")));
            }
            EmbeddingInput::Text(text) => tokenizer.encode(&text).map_err(|error| {
                invalid(format!("holding a text at {place} that fails: {error}"), "plain text".to_owned())
            })?,
        };
        if tokens.is_empty() {
            return Err(invalid(format!("holding no token at {place}"), "of at least one each".to_owned()));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= info.vocab_size) {
            let expected = format!("of token ids below {}", info.vocab_size);
            return Err(invalid(format!("holding {token} at {place}"), expected));
        }
        if tokens.len() > info.max_tokens {
            let (tokens, limit) = (tokens.len(), info.max_tokens);
            return Err(SubmitError::InputTooLong { input: place, tokens, limit });
        }
        Ok(tokens)
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Embedder").field("info", &self.model.info).finish_non_exhaustive()
    }
}

/// The vectors of one request, in the order of its inputs, [`EmbedderInfo::dimensions`] numbers each: a future. Dropping
/// it cancels the request: a waiting one gives up its place, a running one ends before its next step.
#[derive(Debug)]
pub struct Embedding {
    vectors: Pending<Vec<f32>>,
    tokens: Vec<usize>,
}

impl Embedding {
    /// Tokens of each input, for metering: known before anything is computed.
    pub fn tokens(&self) -> &[usize] {
        &self.tokens
    }

    /// Waits for the vectors, for callers outside an async runtime. Panics inside one.
    pub fn wait(self) -> Result<Vec<Vec<f32>>, GenerationError> {
        self.vectors.wait()
    }
}

impl Future for Embedding {
    type Output = Result<Vec<Vec<f32>>, GenerationError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.vectors).poll(context)
    }
}

fn invalid(found: String, expected: String) -> SubmitError {
    SubmitError::Invalid { field: "input", found, expected }
}
