//! A backend without a model: fixed tokens at once, or at the command of a test. For benches and tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use dividend_engine::{FinishReason, GenerateRequest, GenerationError, SubmitError, ToolFormat};
use tokio::sync::Semaphore;

use super::{Backend, Event, Generation, Job, PrepareError, Prepared, Prompt, Query, Work};

/// Answers every prompt with `" w"` repeated: the smaller of its own length and the caller's `max_tokens`. Embeds
/// everything as (1, 0).
///
/// Counts one prompt token per four bytes, rounded up. [`InstantBackend::gated`] hands out events one permit at a
/// time, so that a test decides when the model "thinks".
#[derive(Clone)]
pub struct InstantBackend {
    tokens: u32,
    words: Option<Arc<[String]>>,
    tools: Option<ToolFormat>,
    context: u32,
    sequences: usize,
    gate: Option<Arc<Semaphore>>,
    fail_after: Option<u32>,
    healthy: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
}

impl InstantBackend {
    /// Answers of `tokens` tokens within a context of `context`.
    pub fn new(tokens: u32, context: u32) -> Self {
        Self {
            tokens,
            words: None,
            tools: None,
            context,
            sequences: 1_024,
            gate: None,
            fail_after: None,
            healthy: Arc::new(AtomicBool::new(true)),
            running: Arc::default(),
        }
    }

    /// The same, answering with these words, which may hold calls of tools.
    pub fn saying(self, words: &[&str], tools: ToolFormat) -> Self {
        let tokens = u32::try_from(words.len()).unwrap_or(u32::MAX);
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { tokens, words: Some(words), tools: Some(tools), ..self }
    }

    /// The same, with every event after the prefill waiting for a permit of the semaphore.
    pub fn gated(self, gate: Arc<Semaphore>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// The same, computing `sequences` calls at once instead of 1,024.
    pub fn with_sequences(self, sequences: usize) -> Self {
        Self { sequences, ..self }
    }

    /// The same, failing after `tokens` tokens.
    pub fn failing_after(self, tokens: u32) -> Self {
        Self { fail_after: Some(tokens), ..self }
    }

    /// Sets what [`Backend::is_healthy`] says.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
    }

    /// Answers being computed right now.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }
}

impl Backend for InstantBackend {
    fn kind(&self) -> &'static str {
        "instant"
    }

    fn context_length(&self) -> u32 {
        self.context
    }

    fn sequences(&self) -> usize {
        self.sequences
    }

    fn prepare(&self, query: Query) -> Result<Prepared, PrepareError> {
        let tokens = u32::try_from(query.prompt.bytes().div_ceil(4)).unwrap_or(u32::MAX).max(1);
        let work = match query.prompt {
            Prompt::Inputs { inputs, .. } => Work::Embed(inputs.iter().map(|_| Vec::new()).collect()),
            _ => {
                let empty = GenerateRequest::new(Vec::new(), 1);
                Work::Generate(Box::new(GenerateRequest { choices: query.choices, ..empty }))
            }
        };
        Ok(Prepared { work, tokens, tools: self.tools })
    }

    fn submit(&self, job: Job) -> Result<Box<dyn Generation>, SubmitError> {
        self.running.fetch_add(1, Ordering::AcqRel);
        let length = self.tokens.min(job.max_tokens);
        let reason = if job.max_tokens <= self.tokens { FinishReason::Length } else { FinishReason::Stop };
        Ok(Box::new(Fixed {
            prompt: job.prepared.tokens,
            choices: job.prepared.choices().max(1),
            vectors: if let Work::Embed(inputs) = job.prepared.work { inputs.len() } else { 0 },
            choice: 0,
            words: self.words.clone(),
            length,
            reason,
            told: None,
            gate: self.gate.clone().map(Gate::new),
            fail_after: self.fail_after,
            running: self.running.clone(),
        }))
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }
}

/// A semaphore that is polled.
struct Gate {
    semaphore: Arc<Semaphore>,
    waiting: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Gate {
    fn new(semaphore: Arc<Semaphore>) -> Self {
        Self { semaphore, waiting: None }
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let semaphore = &self.semaphore;
        let waiting = self.waiting.get_or_insert_with(|| {
            let semaphore = semaphore.clone();
            Box::pin(async move {
                if let Ok(permit) = semaphore.acquire_owned().await {
                    permit.forget();
                }
            })
        });
        let polled = waiting.as_mut().poll(cx);
        if polled.is_ready() {
            self.waiting = None;
        }
        polled
    }
}

struct Fixed {
    prompt: u32,
    choices: usize,
    /// Vectors that are still to be given out.
    vectors: usize,
    /// The choice that is given out.
    choice: usize,
    words: Option<Arc<[String]>>,
    length: u32,
    reason: FinishReason,
    /// `None` before the prefill, then the tokens given out of the choice.
    told: Option<u32>,
    gate: Option<Gate>,
    fail_after: Option<u32>,
    running: Arc<AtomicUsize>,
}

impl Generation for Fixed {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(told) = self.told else {
            self.told = Some(0);
            return Poll::Ready(Some(Event::Prefilled(self.prompt as usize)));
        };
        let choice = self.choice;
        if choice == self.choices {
            return Poll::Ready(None);
        }
        if let Some(gate) = &mut self.gate {
            std::task::ready!(gate.poll_pass(cx));
        }
        if self.fail_after == Some(told) {
            self.choice = self.choices;
            return Poll::Ready(Some(Event::Failed(GenerationError::Stopped)));
        }
        if self.vectors > 0 {
            let vectors = (0..std::mem::take(&mut self.vectors)).map(|_| vec![1.0, 0.0]).collect();
            return Poll::Ready(Some(Event::Vectors(vectors)));
        }
        if told < self.length {
            self.told = Some(told + 1);
            let word = self.words.as_ref().and_then(|words| words.get(told as usize));
            let (text, logprobs) = (word.map_or(" w", String::as_str).to_owned(), Vec::new());
            return Poll::Ready(Some(Event::Text { choice, text, tokens: 1, logprobs }));
        }
        self.told = Some(0);
        self.choice += 1;
        Poll::Ready(Some(Event::Finished { choice, reason: self.reason, cached_tokens: 0 }))
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }
}
