//! Who is computed when.
//!
//! One thread owns the model and takes one step after another. A step is one pass of the model over a token of
//! every answer under way and prompt tokens up to a budget. Requests wait in one bounded queue, behind one lock that is
//! never held while computing. With nothing to do the thread sleeps on a condition variable.
//!
//! Who gets the next free place, and whose prompt is read next, follows the same rules (`waiting`, `plan`):
//!
//! 1. the tenant that has had least, in tokens weighted by priority (`fair`);
//! 2. of its requests the one with the highest priority, of those the one with the earliest deadline;
//! 3. of those, the first to arrive (places), or by turns (prompts);
//! 4. one turn in eight goes to whoever has waited longest, so that nobody starves.
//!
//! While answers are under way, the budget is what keeps a step within the operator's target (`budget`). When the KV
//! cache is full, the request with the least claim to its memory (`standing`) is set aside and computed again later.
//! These decisions are functions of what they are told: no clock, no randomness, no backend.

mod budget;
mod check;
mod fair;
mod histogram;
mod plan;
mod queue;
mod running;
mod standing;
mod stats;
mod waiting;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use histogram::Histogram;
pub(crate) use queue::Ticket;
use queue::{Job, Queue};
use stats::Counters;
pub use stats::{EngineStats, Health, Refused};
use worker::Worker;

use crate::backend::{AdapterBase, Backend};
use crate::sampler::Sampler;
use crate::tokenizer::Tokenizer;
use crate::{EngineError, EngineOptions, GenerateRequest, Generation, PrefixSharing, SubmitError};

/// Tells the time; in tests, the time that they want.
pub(crate) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Sizes that hold for the life of an engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchedulerLimits {
    pub(crate) max_sequences: usize,
    pub(crate) queue: usize,
    pub(crate) prefill_chunk: usize,
    pub(crate) inter_token_target: Option<Duration>,
    pub(crate) context_length: usize,
    pub(crate) prefix_sharing: PrefixSharing,
}

impl SchedulerLimits {
    pub(crate) fn new(options: &EngineOptions, context_length: usize) -> Self {
        let EngineOptions { max_sequences, queue, prefill_chunk, inter_token_target, prefix_sharing, .. } =
            *options;
        Self { max_sequences, queue, prefill_chunk, inter_token_target, context_length, prefix_sharing }
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
pub(crate) struct Scheduler {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    clock: Clock,
    limits: SchedulerLimits,
    vocabulary_size: usize,
    /// What adapters must fit.
    adapter_base: Option<AdapterBase>,
}

impl Scheduler {
    /// Starts the thread that owns `backend`.
    pub(crate) fn start(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        limits: SchedulerLimits,
    ) -> Result<Self, EngineError> {
        let (scheduler, worker) = Self::with_worker(backend, vocabulary, limits, Arc::new(Instant::now));
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| EngineError::Backend(format!("cannot start the engine's thread: {error}")))?;
        Ok(scheduler)
    }

    /// The two ends, before there is a thread.
    fn with_worker(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        limits: SchedulerLimits,
        clock: Clock,
    ) -> (Self, Worker) {
        let queue = Arc::new(Queue::new(limits.max_sequences + limits.queue, limits.queue));
        let counters = Arc::new(Counters::default());
        let (vocabulary_size, adapter_base) = (vocabulary.size(), backend.adapter_base());
        let shared = (Arc::clone(&queue), Arc::clone(&counters));
        let worker = Worker::new(backend, vocabulary, limits, shared, Clock::clone(&clock));
        (Self { queue, counters, clock, limits, vocabulary_size, adapter_base }, worker)
    }

    /// Queues a request, or says why not.
    pub(crate) fn submit(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        self.enqueue(request).inspect_err(|reason| self.counters.refused(reason))
    }

    fn enqueue(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        self.check(&request)?;
        self.check_length(&request)?;
        let arrived = (self.clock)();
        if request.deadline.is_some_and(|deadline| deadline <= arrived) {
            return Err(SubmitError::Late);
        }
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => fresh_seed()?,
        };
        let (events, receiver) = mpsc::unbounded_channel();
        let tenant = request.tenant;
        let scope = self.limits.prefix_sharing.scope(tenant);
        let request = Arc::new(request);
        let ticket = self.queue.push(tenant, request.choices, |id, choice| Job {
            id,
            choice,
            sampler: Sampler::new(&request.sampling, &request.prompt, seed.wrapping_add(choice as u64)),
            request: Arc::clone(&request),
            events: events.clone(),
            scope,
            arrived,
        })?;
        Ok(Generation::new(receiver, request.choices, ticket))
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
