//! The thread that computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::queue::{Job, Queue};
use super::{Counters, Model};
use crate::scheduler::Health;
use crate::{GenerationError, turn};

/// Requests computed in turn; the others wait.
const MAX_ACTIVE: usize = 16;
/// Steps that may fail in a row before the service ends.
const MAX_FAILURES: u32 = 3;

/// Owns the model and the requests being computed.
pub(super) struct Worker<M: Model> {
    model: M,
    budget: usize,
    queue: Arc<Queue<M>>,
    counters: Arc<Counters>,
    active: Vec<Active<M>>,
    failures: u32,
}

/// A request being computed: its outputs so far.
struct Active<M: Model> {
    job: Job<M>,
    outputs: Vec<M::Output>,
    failed: Option<GenerationError>,
}

impl<M: Model> Worker<M> {
    pub(super) fn new(model: M, budget: usize, queue: Arc<Queue<M>>, counters: Arc<Counters>) -> Self {
        Self { model, budget, queue, counters, active: Vec::new(), failures: 0 }
    }

    /// Works until the service is closed and nobody waits any more, or until it has failed for good.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        // Steps catch their own panics; this one is for the loop itself.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            let reason = format!("the worker: {}", GenerationError::panicked(&*panic));
            tracing::error!(%reason, "model out of service");
            queue.fail(reason);
        }
    }

    fn work(&mut self) {
        while self.failures < MAX_FAILURES {
            let places = MAX_ACTIVE - self.active.len();
            let Some(jobs) = self.queue.take(places, self.active.len()) else { return };
            let started = jobs.into_iter().map(|job| Active { job, outputs: Vec::new(), failed: None });
            self.active.extend(started);
            self.drop_abandoned();
            self.step();
            self.finish();
        }
        let reason = match self.queue.health() {
            Health::Degraded { reason, .. } | Health::Failed { reason } => reason,
            Health::Ready => "unknown".to_owned(),
        };
        tracing::error!(%reason, failures = self.failures, "model out of service");
        self.active.drain(..).for_each(|active| active.answer(Err(GenerationError::Stopped)));
        self.queue.fail(format!("{MAX_FAILURES} steps failed in a row, the last with: {reason}"));
    }

    /// Lets go of requests that nobody waits for any more.
    fn drop_abandoned(&mut self) {
        let before = self.active.len();
        self.active.retain(|active| !active.job.answer.is_closed());
        add(&self.counters.cancelled, (before - self.active.len()) as u64);
    }

    /// Computes the next inputs of all requests.
    fn step(&mut self) {
        let picks = self.pick();
        let inputs: Vec<&M::Input> =
            picks.iter().map(|(request, input)| &self.active[*request].job.inputs[*input]).collect();
        if inputs.is_empty() {
            return;
        }
        let start = Instant::now();
        let guard = turn::wait();
        let computed = catch_unwind(AssertUnwindSafe(|| self.model.compute(&inputs)));
        drop(guard);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let units: usize = inputs.iter().map(|input| M::cost(input)).sum();
        add(&self.counters.compute_nanos, nanos);
        add(&self.counters.steps, 1);
        add(&self.counters.inputs, picks.len() as u64);
        add(&self.counters.units, units as u64);
        let outcomes = computed.unwrap_or_else(|panic| {
            let error = GenerationError::panicked(&*panic);
            picks.iter().map(|_| Err(error.clone())).collect()
        });
        self.note(&outcomes);
        for ((request, _), outcome) in picks.into_iter().zip(outcomes) {
            let active = &mut self.active[request];
            match outcome {
                Ok(output) => active.outputs.push(output),
                Err(error) => active.failed = Some(error),
            }
        }
    }

    /// The next inputs of the requests in turn, within the budget but at least one.
    fn pick(&self) -> Vec<(usize, usize)> {
        let (mut picks, mut left) = (Vec::new(), self.budget);
        for round in 0.. {
            let before = picks.len();
            for (request, active) in self.active.iter().enumerate() {
                let input = active.outputs.len() + round;
                let Some(cost) = active.job.inputs.get(input).map(M::cost) else { continue };
                if cost > left && !picks.is_empty() {
                    return picks;
                }
                picks.push((request, input));
                left = left.saturating_sub(cost);
            }
            if picks.len() == before {
                return picks;
            }
        }
        picks
    }

    /// Tells those whose request is complete or has failed.
    fn finish(&mut self) {
        let (ended, going_on) = self.active.drain(..).partition(Active::ended);
        self.active = going_on;
        for mut active in ended {
            let outputs = std::mem::take(&mut active.outputs);
            match active.failed.take() {
                None => {
                    add(&self.counters.finished, 1);
                    active.answer(Ok(outputs));
                }
                Some(error) => {
                    add(&self.counters.failed, 1);
                    active.answer(Err(error));
                }
            }
        }
    }

    /// Keeps the health. An input whose answer is not finite says nothing of the others.
    fn note(&mut self, outcomes: &[Result<M::Output, GenerationError>]) {
        let mut failures = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let Some(error) = failures.find(|error| **error != GenerationError::NotFinite) else {
            if self.failures > 0 {
                self.failures = 0;
                self.queue.set_health(Health::Ready);
            }
            return;
        };
        self.failures += 1;
        add(&self.counters.panics, matches!(error, GenerationError::Panicked(_)).into());
        let reason = error.to_string();
        tracing::error!(%reason, failures = self.failures, "a step failed");
        self.queue.set_health(Health::Degraded { failures: self.failures, reason });
    }
}

impl<M: Model> Active<M> {
    fn ended(&self) -> bool {
        self.failed.is_some() || self.outputs.len() == self.job.inputs.len()
    }

    /// A caller who has left is not told, and need not be.
    fn answer(self, answer: Result<Vec<M::Output>, GenerationError>) {
        let _ = self.job.answer.send(answer);
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}
