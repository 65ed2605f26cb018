//! The thread that computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::{Plan, Turn};
use super::queue::Queue;
use super::running::{Running, Step};
use super::stats::{Counters, Health, add, add_time};
use super::{SchedulerLimits, Vocabulary};
use crate::backend::{Backend, Outcome};
use crate::{Event, GenerationError};

/// Requests that may fail in a row before the engine takes itself out of service.
const MAX_FAILURES: u32 = 3;

/// Owns the model and everything being computed.
pub(super) struct Worker {
    backend: Box<dyn Backend>,
    vocabulary: Arc<dyn Vocabulary>,
    limits: SchedulerLimits,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    running: Vec<Running>,
    /// Set aside because the KV cache was full; they go on when a place is free and somebody has ended.
    aside: Vec<Running>,
    /// Prefill turns given so far.
    turns: u64,
    failures: u32,
}

impl Worker {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        limits: SchedulerLimits,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Self {
        let (running, aside) = (Vec::new(), Vec::new());
        Self { backend, vocabulary, limits, queue, counters, running, aside, turns: 0, failures: 0 }
    }

    /// Works until the engine is closed and nobody reads any more, or until it has failed for good.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        // Steps catch their own panics; this one is for the scheduler itself.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            let reason = format!("the scheduler: {}", GenerationError::panicked(&*panic));
            tracing::error!(%reason, "engine out of service");
            queue.fail(reason);
        }
    }

    fn work(&mut self) {
        while self.failures < MAX_FAILURES {
            let places = self.limits.max_sequences - self.running.len() - self.aside.len();
            let idle = self.running.is_empty() && self.aside.is_empty();
            let Some(jobs) = self.queue.take(places, idle) else { return };
            for job in jobs {
                self.turns += 1;
                self.running.push(Running::new(job, self.turns));
            }
            if self.running.is_empty() {
                self.running.append(&mut self.aside);
            }
            self.drop_abandoned();
            self.step();
        }
        self.give_up();
    }

    /// Lets go of requests that nobody reads any more.
    fn drop_abandoned(&mut self) {
        for index in (0..self.running.len()).rev() {
            if self.running[index].abandoned() {
                add(&self.counters.cancelled, 1);
                self.remove(index);
            }
        }
        self.aside.retain(|running| {
            let stays = !running.abandoned();
            if !stays {
                add(&self.counters.cancelled, 1);
                self.queue.leave(running.id);
            }
            stays
        });
    }

    /// One pass of the model: a token for every answer under way, and prompt tokens within the budget.
    fn step(&mut self) {
        let plan = Plan::new(&mut self.running, self.limits.prefill_chunk, &mut self.turns);
        let Self { backend, running, .. } = self;
        for turn in plan.turns() {
            running[turn.index].open(&mut **backend);
        }
        // Opening may have found tokens computed already, so a turn can be shorter than it was planned.
        let turns: Vec<Turn> = plan.turns().iter().map(|turn| turn.within(&running[turn.index])).collect();
        let chunks: Vec<_> = turns.iter().filter_map(|turn| running[turn.index].chunk(turn.tokens)).collect();
        if chunks.is_empty() {
            return;
        }
        let start = Instant::now();
        let outcomes = match catch_unwind(AssertUnwindSafe(|| backend.step(&chunks))) {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(_full)) => return self.make_room(),
            Err(panic) => chunks.iter().map(|_| Err(GenerationError::panicked(&*panic))).collect(),
        };
        self.account(&turns, start.elapsed());
        self.advance(&turns, outcomes);
    }

    /// Shares the time of a step between prompts and answers, by their tokens.
    fn account(&self, turns: &[Turn], elapsed: Duration) {
        let tokens: usize = turns.iter().map(|turn| turn.tokens).sum();
        let decoded = turns.iter().filter(|turn| turn.is_decode).count();
        let decode = elapsed.mul_f64(decoded as f64 / tokens.max(1) as f64);
        add_time(&self.counters.decode_nanos, decode);
        add_time(&self.counters.prefill_nanos, elapsed.saturating_sub(decode));
        add(&self.counters.prompt_tokens, (tokens - decoded) as u64);
    }

    fn advance(&mut self, turns: &[Turn], outcomes: Vec<Outcome>) {
        let mut ended = Vec::new();
        for (turn, outcome) in turns.iter().zip(outcomes) {
            let running = &mut self.running[turn.index];
            let before = running.generated();
            let words = &*self.vocabulary;
            let step = outcome.and_then(|logits| running.advance(turn.tokens, logits.as_deref(), words));
            add(&self.counters.generated_tokens, (running.generated() - before) as u64);
            match step {
                Ok(step) => {
                    self.succeeded();
                    if let Step::Done(event) = step {
                        add(&self.counters.finished, 1);
                        ended.push((turn.index, event));
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    ended.push((turn.index, Event::Failed(error)));
                }
            }
        }
        ended.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, event) in ended {
            self.remove(index).tell(event);
        }
    }

    /// Sets one request aside so that the others fit into the KV cache: the least urgent, and of those the youngest. One
    /// that does not fit alone can never be computed.
    fn make_room(&mut self) {
        let victim = self
            .running
            .iter()
            .enumerate()
            .min_by_key(|(_, running)| (running.priority, std::cmp::Reverse(running.id)));
        let Some((index, _)) = victim else { return };
        if self.running.len() == 1 {
            let error = GenerationError::Backend("the KV cache is too small for this request".to_owned());
            add(&self.counters.failed, 1);
            self.remove(index).tell(Event::Failed(error));
            return;
        }
        let mut running = self.running.swap_remove(index);
        running.close(&mut *self.backend);
        self.aside.push(running);
        add(&self.counters.preempted, 1);
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            self.queue.set_health(Health::Ready);
        }
    }

    fn failed(&mut self, error: &GenerationError) {
        self.failures += 1;
        let reason = error.to_string();
        tracing::error!(%reason, failures = self.failures, "generation failed");
        self.queue.set_health(Health::Degraded { failures: self.failures, reason });
        add(&self.counters.failed, 1);
        add(&self.counters.panics, matches!(error, GenerationError::Panicked(_)).into());
    }

    /// Ends a request. Its place and its cache are free, so those set aside may try again.
    fn remove(&mut self, index: usize) -> Running {
        let mut removed = self.running.remove(index);
        removed.close(&mut *self.backend);
        removed.release_adapter();
        self.queue.leave(removed.id);
        self.running.append(&mut self.aside);
        removed
    }

    fn give_up(&mut self) {
        let reason = match self.queue.health() {
            Health::Degraded { reason, .. } | Health::Failed { reason } => reason,
            Health::Ready => "unknown".to_owned(),
        };
        tracing::error!(%reason, failures = self.failures, "engine out of service");
        for running in self.running.drain(..).chain(self.aside.drain(..)) {
            running.tell(Event::Failed(GenerationError::Stopped));
        }
        self.queue.fail(format!("{MAX_FAILURES} requests failed in a row, the last with: {reason}"));
    }
}
