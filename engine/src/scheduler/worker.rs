//! The thread that computes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::queue::Queue;
use super::running::{Running, Step};
use super::stats::{Counters, Health, add, add_time};
use super::{SchedulerLimits, Vocabulary};
use crate::backend::Backend;
use crate::{Event, GenerationError};

/// Steps that may fail in a row before the engine takes itself out of service.
const MAX_FAILURES: u32 = 3;

/// Owns the model and everything being computed.
pub(super) struct Worker {
    backend: Box<dyn Backend>,
    vocabulary: Arc<dyn Vocabulary>,
    limits: SchedulerLimits,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    running: Vec<Running>,
    /// Prefill turns given so far.
    turns: u64,
    failures: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    Prefill,
    Decode,
}

impl Worker {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        limits: SchedulerLimits,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { backend, vocabulary, limits, queue, counters, running: Vec::new(), turns: 0, failures: 0 }
    }

    /// Works until the engine is closed and nobody reads any more, or until it has failed for good.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        // Steps catch their own panics; this one is for the scheduler itself.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            let reason = format!("the scheduler panicked: {}", panic_text(&*panic));
            tracing::error!(%reason, "engine out of service");
            queue.fail(reason);
        }
    }

    fn work(&mut self) {
        while self.failures < MAX_FAILURES {
            let places = self.limits.max_sequences - self.running.len();
            let Some(jobs) = self.queue.take(places, self.running.is_empty()) else { return };
            for job in jobs {
                self.turns += 1;
                self.running.push(Running::new(job, &*self.backend, self.turns));
            }
            self.decode_all();
            self.prefill_some();
        }
        let reason = match self.queue.health() {
            Health::Degraded { reason, .. } | Health::Failed { reason } => reason,
            Health::Ready => "unknown".to_owned(),
        };
        tracing::error!(%reason, failures = self.failures, "engine out of service");
        for running in self.running.drain(..) {
            running.tell(Event::Failed(GenerationError::Stopped));
        }
        self.queue.fail(format!("{MAX_FAILURES} steps failed in a row, the last with: {reason}"));
    }

    /// One token for every answer under way.
    fn decode_all(&mut self) {
        let mut index = 0;
        while index < self.running.len() {
            // A step that ends a request puts the next one in its place.
            let stays = !self.running[index].decoding() || self.step(index, Kind::Decode);
            index += usize::from(stays);
        }
    }

    /// Prompt tokens up to one chunk in all: a whole chunk of a long prompt, or several short prompts.
    fn prefill_some(&mut self) {
        let chunk = self.limits.prefill_chunk;
        let mut budget = chunk;
        while let Some(index) = self.next_prefill() {
            let tokens = self.running[index].next_chunk(chunk);
            if tokens > budget {
                return;
            }
            budget -= tokens;
            self.step(index, Kind::Prefill);
        }
    }

    fn next_prefill(&self) -> Option<usize> {
        let prefilling = self.running.iter().enumerate().filter(|(_, running)| !running.decoding());
        prefilling.min_by_key(|(_, running)| running.prefill_order()).map(|(index, _)| index)
    }

    /// Takes one step of one request; false if that was its last.
    fn step(&mut self, index: usize, kind: Kind) -> bool {
        if self.running[index].abandoned() {
            add(&self.counters.cancelled, 1);
            self.remove(index);
            return false;
        }
        self.turns += 1;
        let (chunk, turn, words) = (self.limits.prefill_chunk, self.turns, Arc::clone(&self.vocabulary));
        let running = &mut self.running[index];
        let (before, prompt_tokens) = (running.generated(), running.next_chunk(chunk));
        let start = Instant::now();
        // A sequence that panicked is dropped; the weights that it shares are never written.
        let outcome = catch_unwind(AssertUnwindSafe(|| match kind {
            Kind::Prefill => running.prefill(chunk, turn, &*words),
            Kind::Decode => running.decode(&*words),
        }));
        let generated = (self.running[index].generated() - before) as u64;
        add(&self.counters.generated_tokens, generated);
        match kind {
            Kind::Prefill => {
                add_time(&self.counters.prefill_nanos, start.elapsed());
                add(&self.counters.prompt_tokens, prompt_tokens as u64);
            }
            Kind::Decode => add_time(&self.counters.decode_nanos, start.elapsed()),
        }
        match outcome {
            Ok(Ok(step)) => self.succeeded(index, step),
            Ok(Err(error)) => self.failed(index, error),
            Err(panic) => {
                add(&self.counters.panics, 1);
                self.failed(index, GenerationError::Panicked(panic_text(&*panic)))
            }
        }
    }

    fn succeeded(&mut self, index: usize, step: Step) -> bool {
        if self.failures > 0 {
            self.failures = 0;
            self.queue.set_health(Health::Ready);
        }
        let Step::Done(event) = step else { return true };
        add(&self.counters.finished, 1);
        self.remove(index).tell(event);
        false
    }

    fn failed(&mut self, index: usize, error: GenerationError) -> bool {
        self.failures += 1;
        let reason = error.to_string();
        tracing::error!(%reason, failures = self.failures, "generation failed");
        self.queue.set_health(Health::Degraded { failures: self.failures, reason });
        add(&self.counters.failed, 1);
        self.remove(index).tell(Event::Failed(error));
        false
    }

    fn remove(&mut self, index: usize) -> Running {
        let removed = self.running.remove(index);
        self.queue.leave(removed.id);
        removed
    }
}

/// What a panic said, for logs and callers.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
