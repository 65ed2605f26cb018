//! Models that answer in one step: a request is a list of inputs, its answer a list of outputs.
//!
//! One thread owns the model. Requests wait in one bounded queue; a step computes inputs of the oldest requests in turn,
//! up to a budget, so that a long list holds up nobody. A request whose caller has left is dropped between two steps, and
//! gives up its place in the queue at once. With nothing to do the thread sleeps on a condition variable.

mod queue;
mod worker;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::scheduler::Health;
use crate::{EngineError, GenerationError, SubmitError};
use queue::{Job, Queue};

/// What computes.
pub(crate) trait Model: Send + 'static {
    /// What it is asked.
    type Input: Send + 'static;
    /// What it answers.
    type Output: Send + 'static;

    /// What an input costs, in the unit of the budget; at least 1.
    fn cost(input: &Self::Input) -> usize;

    /// The answer to each input, in order. What an answer is must not depend on the other inputs.
    fn compute(&mut self, inputs: &[&Self::Input]) -> Vec<Result<Self::Output, GenerationError>>;
}

/// Sizes that hold for the life of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests that may wait.
    pub(crate) queue: usize,
    /// Cost of the inputs of one step, together, unless one alone costs more.
    pub(crate) budget: usize,
}

/// Load and counters of a model that answers in one step. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchStats {
    /// Requests that wait.
    pub queued: usize,
    /// Requests being computed.
    pub active: usize,
    /// Steps computed.
    pub steps: u64,
    /// Inputs computed.
    pub inputs: u64,
    /// What they cost: tokens of an embedder, inputs of a classifier.
    pub units: u64,
    /// Time spent computing, including that of waiting for the turn.
    pub compute_time: Duration,
    /// Requests that finished.
    pub finished: u64,
    /// Requests whose caller left before the end.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Panics caught.
    pub panics: u64,
}

#[derive(Debug, Default)]
struct Counters {
    steps: AtomicU64,
    inputs: AtomicU64,
    units: AtomicU64,
    compute_nanos: AtomicU64,
    finished: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
    panics: AtomicU64,
}

/// The caller's side. Dropping it lets the thread finish what was taken, then end.
pub(crate) struct Service<M: Model> {
    queue: Arc<Queue<M>>,
    counters: Arc<Counters>,
}

impl<M: Model> Service<M> {
    /// Starts the thread that owns `model`, under the thread name `name`.
    pub(crate) fn start(name: &str, model: M, limits: Limits) -> Result<Self, EngineError> {
        let queue = Arc::new(Queue::new(limits.queue));
        let counters = Arc::new(Counters::default());
        let worker = worker::Worker::new(model, limits.budget, Arc::clone(&queue), Arc::clone(&counters));
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.run())
            .map_err(|error| EngineError::Backend(format!("cannot start the thread {name:?}: {error}")))?;
        Ok(Self { queue, counters })
    }

    /// Queues a request, or says why not. Never blocks.
    pub(crate) fn submit(&self, inputs: Vec<M::Input>) -> Result<Pending<M::Output>, SubmitError> {
        let (answer, receiver) = oneshot::channel();
        self.queue.push(Job { inputs, answer })?;
        Ok(Pending(receiver))
    }

    pub(crate) fn health(&self) -> Health {
        self.queue.health()
    }

    pub(crate) fn stats(&self) -> BatchStats {
        let (queued, active) = self.queue.load();
        let counters = &*self.counters;
        BatchStats {
            queued,
            active,
            steps: counters.steps.load(Relaxed),
            inputs: counters.inputs.load(Relaxed),
            units: counters.units.load(Relaxed),
            compute_time: Duration::from_nanos(counters.compute_nanos.load(Relaxed)),
            finished: counters.finished.load(Relaxed),
            cancelled: counters.cancelled.load(Relaxed),
            failed: counters.failed.load(Relaxed),
            panics: counters.panics.load(Relaxed),
        }
    }
}

impl<M: Model> Drop for Service<M> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The outputs of one request, in the order of its inputs. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Pending<T>(oneshot::Receiver<Result<Vec<T>, GenerationError>>);

impl<T> Pending<T> {
    /// Waits for the answer, for callers outside an async runtime. Panics inside one.
    pub(crate) fn wait(self) -> Result<Vec<T>, GenerationError> {
        self.0.blocking_recv().unwrap_or(Err(GenerationError::Stopped))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<Vec<T>, GenerationError>;

    /// A channel that closes without an answer means that the thread died: the caller is told.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(GenerationError::Stopped)))
    }
}
