//! The thread that computes.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::budget::Costs;
use super::plan::{Candidate, Order, Room, Turn};
use super::queue::{Offer, Queue, Taken};
use super::running::{Running, Step};
use super::standing::Tenant;
use super::stats::{Counters, Health, add, add_time};
use super::{Clock, SchedulerLimits, Vocabulary};
use crate::backend::{Backend, Outcome};
use crate::{Event, GenerationError, Priority};

/// Steps that may fail in a row before the engine takes itself out of service.
const MAX_FAILURES: u32 = 3;
/// Longest chunk of a prompt, if answers depend on where prompts are cut: such a backend's chunk is not shortened while
/// answers are under way, so it must not be long.
const LONGEST_GRID: usize = 64;

/// How long to wait for what a constraint allows, with nothing else to compute, before looking at the queue again.
const MASK_PATIENCE: Duration = Duration::from_millis(5);

/// Owns the model and everything being computed.
pub(super) struct Worker {
    backend: Box<dyn Backend>,
    vocabulary: Arc<dyn Vocabulary>,
    limits: SchedulerLimits,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    clock: Clock,
    running: Vec<Running>,
    /// Set aside because the KV cache was full; they go on, the most urgent first, when there is room.
    aside: Vec<Running>,
    order: Order,
    costs: Costs,
    /// Tokens generated in the latest step.
    generated: Vec<(Tenant, Priority, usize)>,
    failures: u32,
}

impl Worker {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        vocabulary: Arc<dyn Vocabulary>,
        limits: SchedulerLimits,
        shared: (Arc<Queue>, Arc<Counters>),
        clock: Clock,
    ) -> Self {
        let (queue, counters) = shared;
        let worker = Self {
            backend,
            vocabulary,
            limits,
            queue,
            counters,
            clock,
            running: Vec::new(),
            aside: Vec::new(),
            order: Order::default(),
            costs: Costs::default(),
            generated: Vec::new(),
            failures: 0,
        };
        worker.note_kv();
        worker
    }

    fn note_kv(&self) {
        if let Some(kv) = self.backend.kv() {
            self.counters.note_kv(kv);
        }
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
            if self.turn().is_none() {
                return;
            }
        }
        self.give_up();
    }

    /// Takes in whom there is a place for, lets go of whom nobody waits for, and takes one step. `None` means that nobody
    /// will come any more.
    pub(super) fn turn(&mut self) -> Option<()> {
        self.admit()?;
        self.drop_abandoned();
        self.resume();
        self.unpark();
        self.step();
        self.note_kv();
        Some(())
    }

    /// Fills free places. While somebody is set aside they are for more urgent requests only.
    fn admit(&mut self) -> Option<()> {
        let inside = self.running.len() + self.aside.len();
        let offer = Offer {
            places: self.limits.max_sequences.saturating_sub(inside),
            above: self.aside.iter().map(|running| holds(running).0).max(),
            idle: inside == 0,
            generated: &self.generated,
        };
        let Taken { begun, expired } = self.queue.take(&offer, &self.clock)?;
        self.generated.clear();
        let now = (self.clock)();
        for job in expired {
            add(&self.counters.expired_waiting, 1);
            // A reader that has left need not be told.
            let _ = job.events.send(Event::Failed(GenerationError::ExpiredWaiting));
        }
        for job in begun {
            self.counters.queue_wait.add(now.saturating_duration_since(job.arrived));
            self.order.shares.enter(job.request.tenant);
            self.running.push(Running::new(job, self.order.tick()));
        }
        Some(())
    }

    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.order.shares.tenants()
    }

    /// Lets go of requests that nobody reads any more, and of those whose deadline has passed.
    fn drop_abandoned(&mut self) {
        let now = (self.clock)();
        let aside = self.running.len();
        self.running.append(&mut self.aside);
        let mut kept_aside = Vec::new();
        for index in (0..self.running.len()).rev() {
            let running = &self.running[index];
            if running.abandoned() {
                add(&self.counters.cancelled, 1);
                self.remove(index);
            } else if running.standing.expired(now) {
                add(&self.counters.expired_running, 1);
                let generated = running.generated();
                self.remove(index).tell(Event::Failed(GenerationError::Expired { generated }));
            } else if index >= aside {
                kept_aside.push(self.running.remove(index));
            }
        }
        self.aside = kept_aside;
    }

    /// Goes on with those set aside, the most urgent first, as long as there is room for all they have and for what those
    /// who run lack, so that the next step cannot set them aside again before it has computed anything. One that runs alone
    /// needs no room for others.
    fn resume(&mut self) {
        while let Some(next) = (0..self.aside.len()).max_by_key(|index| holds(&self.aside[*index])) {
            let fits = self.backend.kv().is_none_or(|kv| {
                let blocks = |running: &Running| running.pending() / kv.block_tokens + 1;
                let others: usize = self.running.iter().map(blocks).sum();
                blocks(&self.aside[next]) + others <= kv.available
            });
            if !fits && !self.running.is_empty() {
                return;
            }
            self.running.push(self.aside.swap_remove(next));
        }
    }

    /// One pass of the model: a token for every answer under way, and prompt tokens within the budget.
    fn step(&mut self) {
        let began = (self.clock)();
        let mut candidates: Vec<Candidate> = self.running.iter().map(Running::candidate).collect();
        for (candidate, running) in candidates.iter_mut().zip(&self.running) {
            candidate.held |= self.running.iter().any(|other| running.follows(other));
        }
        let room = self.room(candidates.iter().filter(|candidate| candidate.decoding).count());
        self.counters.prefill_budget.store(room.tokens as u64, Relaxed);
        let Self { backend, running, order, counters, .. } = self;
        // A sequence is opened when its turn comes, to find as much of its beginning in the cache as there is by then.
        let turns = order.plan(&mut candidates, room, |index| {
            running[index].open(&mut **backend, counters);
            running[index].pending()
        });
        running.iter_mut().zip(&candidates).for_each(|(running, candidate)| running.turn = candidate.turn);
        let chunks: Vec<_> = turns.iter().filter_map(|turn| running[turn.index].chunk(turn.tokens)).collect();
        if chunks.is_empty() {
            if let Some(parked) = self.running.iter_mut().find(|running| running.is_parked()) {
                parked.wait(MASK_PATIENCE);
            }
            return;
        }
        let outcomes = match catch_unwind(AssertUnwindSafe(|| backend.step(&chunks))) {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(_full)) => return self.make_room(),
            Err(panic) => chunks.iter().map(|_| Err(GenerationError::panicked(&*panic))).collect(),
        };
        self.account(&turns, (self.clock)().saturating_duration_since(began));
        self.advance(&turns, outcomes);
        // What a step takes for those who wait for their next token: choosing the tokens included.
        let elapsed = (self.clock)().saturating_duration_since(began);
        let answers = turns.iter().filter(|turn| turn.is_decode).count();
        let tokens: usize = turns.iter().map(|turn| turn.tokens).sum();
        self.costs.observe(answers, tokens - answers, elapsed);
    }

    /// Room for prompts beside so many answers under way.
    fn room(&self, answers: usize) -> Room {
        let most = self.limits.prefill_chunk;
        let tokens = match self.limits.inter_token_target {
            Some(target) if answers > 0 => self.costs.prompt_tokens(answers, target, most),
            _ => most,
        };
        if self.backend.cuts_exactly() {
            return Room { tokens, grid: None };
        }
        let grid = most.min(LONGEST_GRID);
        Room { tokens: tokens.max(grid), grid: Some(grid) }
    }

    /// Shares the time of a step between prompts and answers, by their tokens.
    fn account(&self, turns: &[Turn], elapsed: Duration) {
        let tokens: usize = turns.iter().map(|turn| turn.tokens).sum();
        let decoded = turns.iter().filter(|turn| turn.is_decode).count();
        let decode = elapsed.mul_f64(decoded as f64 / tokens.max(1) as f64);
        add_time(&self.counters.decode_nanos, decode);
        add_time(&self.counters.prefill_nanos, elapsed.saturating_sub(decode));
        add(&self.counters.prompt_tokens, (tokens - decoded) as u64);
        add(&self.counters.steps, 1);
    }

    fn advance(&mut self, turns: &[Turn], outcomes: Vec<Outcome>) {
        let mut ended = Vec::new();
        let failures = self.failures;
        for (turn, outcome) in turns.iter().zip(outcomes) {
            let proceed = |running: &mut Running, words: &dyn Vocabulary| {
                outcome.and_then(|logits| running.advance(turn.tokens, logits, words))
            };
            ended.extend(self.proceed(turn.index, proceed));
        }
        // However many requests were in it, a step fails once.
        self.failures = self.failures.min(failures + 1);
        self.end(ended);
    }

    /// Goes on with those whose next token could not be chosen because it was not known what is allowed.
    fn unpark(&mut self) {
        let parked = (0..self.running.len()).filter(|index| self.running[*index].is_parked());
        let parked: Vec<usize> = parked.collect();
        let ended = parked.into_iter().filter_map(|index| self.proceed(index, Running::unpark)).collect();
        self.end(ended);
    }

    /// Takes one request further and accounts for it. Answers the event with which it ends, if it does.
    fn proceed(
        &mut self,
        index: usize,
        step: impl FnOnce(&mut Running, &dyn Vocabulary) -> Result<Step, GenerationError>,
    ) -> Option<(usize, Event)> {
        let running = &mut self.running[index];
        let before = running.generated();
        let step = step(running, &*self.vocabulary);
        let generated = running.generated() - before;
        if generated > 0 {
            add(&self.counters.generated_tokens, generated as u64);
            running.note_token((self.clock)(), &self.counters);
            self.generated.push((running.standing.tenant, running.standing.priority, generated));
        }
        match step {
            Ok(step) => {
                self.succeeded();
                let Step::Done(event) = step else { return None };
                add(&self.counters.finished, 1);
                Some((index, event))
            }
            Err(error) => {
                self.failed(&error);
                Some((index, Event::Failed(error)))
            }
        }
    }

    /// Lets go of those who have ended, with their last events.
    fn end(&mut self, mut ended: Vec<(usize, Event)>) {
        ended.sort_by_key(|(index, _)| Reverse(*index));
        for (index, event) in ended {
            self.remove(index).tell(event);
        }
    }

    /// Sets one request aside so that the others fit into the KV cache: whoever holds his memory the least. One that does
    /// not fit alone can never be computed.
    fn make_room(&mut self) {
        let victim = (0..self.running.len()).min_by_key(|index| holds(&self.running[*index]));
        let Some(index) = victim else { return };
        if self.running.len() == 1 {
            let error = GenerationError::Backend("the KV cache is too small for this request".to_owned());
            add(&self.counters.failed, 1);
            self.remove(index).tell(Event::Failed(error));
            return;
        }
        let mut running = self.running.swap_remove(index);
        running.close(&mut *self.backend);
        running.set_aside += 1;
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
        add(&self.counters.failed, 1);
        let reason = error.to_string();
        if error.is_the_requests_own() {
            tracing::warn!(%reason, "generation failed");
            return;
        }
        self.failures += 1;
        tracing::error!(%reason, failures = self.failures, "generation failed");
        self.queue.set_health(Health::Degraded { failures: self.failures, reason });
        add(&self.counters.panics, matches!(error, GenerationError::Panicked(_)).into());
    }

    /// Ends a request. Its place and its cache are free.
    fn remove(&mut self, index: usize) -> Running {
        let mut removed = self.running.remove(index);
        removed.close(&mut *self.backend);
        removed.release_adapter();
        self.queue.leave(removed.standing.id);
        self.order.shares.leave(removed.standing.tenant);
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

/// Who keeps his memory: see `Standing::hold`.
fn holds(running: &Running) -> (Priority, Reverse<u64>) {
    running.standing.hold(running.set_aside)
}
