//! Who is computed when.
//!
//! One thread owns the model and takes one step after another. A step is one pass of the model over a token of
//! every answer under way and prompt tokens up to the size of a chunk, taken in turn from the prompts being
//! read. When the KV cache is full, the least urgent request is set aside and computed again later. Requests
//! wait in one bounded queue, behind one lock that is never held while computing. With nothing to do the
//! thread sleeps on a condition variable.

mod check;
mod plan;
mod queue;
mod running;
mod stats;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;

pub(crate) use queue::Ticket;
use queue::{Job, Queue};
use stats::Counters;
pub use stats::{EngineStats, Health};

use crate::backend::Backend;
use crate::sampler::Sampler;
use crate::tokenizer::Tokenizer;
use crate::{EngineError, EngineOptions, GenerateRequest, Generation, SubmitError};

/// Sizes that hold for the life of an engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchedulerLimits {
    pub(crate) max_sequences: usize,
    pub(crate) queue: usize,
    pub(crate) prefill_chunk: usize,
    pub(crate) context_length: usize,
}

impl SchedulerLimits {
    pub(crate) fn new(options: &EngineOptions, context_length: usize) -> Self {
        let EngineOptions { max_sequences, queue, prefill_chunk, .. } = *options;
        Self { max_sequences, queue, prefill_chunk, context_length }
    }
}

/// What turns tokens into text; a trait so that scheduling is tested without a model's vocabulary.
pub(crate) trait Vocabulary: Send + Sync {
    /// The bytes that a token adds to the answer.
    fn bytes(&self, token: u32) -> &[u8];
    /// True if the token ends the answer.
    fn ends(&self, token: u32) -> bool;
    /// Number of token ids.
    fn size(&self) -> usize;
}

impl Vocabulary for Tokenizer {
    fn bytes(&self, token: u32) -> &[u8] {
        self.bytes(token)
    }

    fn ends(&self, token: u32) -> bool {
        self.ends(token)
    }

    fn size(&self) -> usize {
        self.vocab_size()
    }
}

/// The caller's side. Dropping it lets the thread finish what somebody still reads, then end.
#[derive(Debug)]
pub(crate) struct Scheduler {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    limits: SchedulerLimits,
    vocabulary_size: usize,
}

impl Scheduler {
    /// Starts the thread that owns `backend`.
    pub(crate) fn start(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        limits: SchedulerLimits,
    ) -> Result<Self, EngineError> {
        let queue = Arc::new(Queue::new(limits.max_sequences + limits.queue, limits.queue));
        let counters = Arc::new(Counters::default());
        let vocabulary_size = vocabulary.size();
        let worker =
            worker::Worker::new(backend, vocabulary, limits, Arc::clone(&queue), Arc::clone(&counters));
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| EngineError::Backend(format!("cannot start the engine's thread: {error}")))?;
        Ok(Self { queue, counters, limits, vocabulary_size })
    }

    /// Queues a request, or says why not.
    pub(crate) fn submit(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        self.check(&request)?;
        self.check_length(&request)?;
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => fresh_seed()?,
        };
        let (events, receiver) = mpsc::unbounded_channel();
        let choices = request.choices;
        let request = Arc::new(request);
        let ticket = self.queue.push(request.priority, choices, |id, choice| {
            let sampler = Sampler::new(&request.sampling, &request.prompt, seed.wrapping_add(choice as u64));
            Job { id, choice, request: Arc::clone(&request), sampler, events: events.clone() }
        })?;
        Ok(Generation::new(receiver, choices, ticket))
    }

    pub(crate) fn health(&self) -> Health {
        self.queue.health()
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let (queued, active) = self.queue.load();
        self.counters.snapshot(queued, active, self.limits.max_sequences)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn fresh_seed() -> Result<u64, SubmitError> {
    getrandom::u64()
        .map_err(|error| SubmitError::Unhealthy { reason: format!("no source of randomness: {error}") })
}
