//! Requests that wait, and those being computed, behind one lock.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::standing::{Standing, Tenant};
use super::waiting::Waiting;
use super::{Clock, Health};
use crate::packed::Scope;
use crate::sampler::Sampler;
use crate::{Event, GenerateRequest, Priority, SubmitError};

/// One choice of a request on its way to the worker.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    /// Which choice; the ids of a request's choices follow each other.
    pub(crate) choice: usize,
    pub(crate) request: Arc<GenerateRequest>,
    pub(crate) sampler: Sampler,
    pub(crate) events: UnboundedSender<Event>,
    /// Whose blocks of the KV cache it may begin with.
    pub(crate) scope: Scope,
    /// When it came.
    pub(crate) arrived: Instant,
}

/// What the worker asks the queue for.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    /// Free places.
    pub(crate) places: usize,
    /// The places are for requests of a priority above this.
    pub(crate) above: Option<Priority>,
    /// The worker has nothing to do until somebody comes.
    pub(crate) idle: bool,
    /// Tokens generated since the last offer.
    pub(crate) generated: &'a [(Tenant, Priority, usize)],
}

/// What the queue has for the worker.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Those who get a place.
    pub(crate) begun: Vec<Job>,
    /// Those whose deadline has passed.
    pub(crate) expired: Vec<Job>,
}

/// The meeting point of callers and worker.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    capacity: usize,
    waiting_limit: usize,
}

#[derive(Debug)]
struct State {
    waiting: Waiting<Job>,
    /// Taken by the worker, and still read by somebody.
    active: HashMap<u64, Tenant>,
    next_id: u64,
    closed: bool,
    health: Health,
}

/// A caller's place. Dropping it gives the place to the next request, even before the worker has noticed.
#[derive(Debug)]
pub(crate) struct Ticket {
    ids: Range<u64>,
    queue: Arc<Queue>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ids.clone().for_each(|id| self.queue.leave(id));
    }
}

impl Queue {
    /// `capacity` requests may be inside at once, waiting and computed together; `waiting_limit` is what
    /// a refused caller is told.
    pub(crate) fn new(capacity: usize, waiting_limit: usize) -> Self {
        let state = State {
            waiting: Waiting::default(),
            active: HashMap::new(),
            next_id: 0,
            closed: false,
            health: Health::Ready,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), capacity, waiting_limit }
    }

    /// Adds so many jobs of `tenant`, or none: `make` builds each for its id and choice.
    pub(crate) fn push(
        self: &Arc<Self>,
        tenant: Tenant,
        choices: usize,
        mut make: impl FnMut(u64, usize) -> Job,
    ) -> Result<Ticket, SubmitError> {
        let mut state = self.lock();
        if let Health::Failed { reason } = &state.health {
            return Err(SubmitError::Unhealthy { reason: reason.clone() });
        }
        let free = self.capacity.saturating_sub(state.waiting.len() + state.active.len());
        if !state.waiting.may_enter(tenant, choices, free) {
            return Err(SubmitError::QueueFull { limit: self.waiting_limit });
        }
        let ids = state.next_id..state.next_id + choices as u64;
        state.next_id = ids.end;
        for (choice, id) in ids.clone().enumerate() {
            let job = make(id, choice);
            // The prompt is computed once for all choices.
            let tokens = if choice == 0 { job.request.prompt.len() } else { 0 };
            state.waiting.push(Standing::of(id, &job.request), tokens, job);
        }
        drop(state);
        self.wake.notify_one();
        Ok(Ticket { ids, queue: Arc::clone(self) })
    }

    /// Jobs for the worker. If it is idle, this waits for one; `None` then means that the engine was closed and nobody
    /// waits any more.
    pub(crate) fn take(&self, offer: &Offer<'_>, clock: &Clock) -> Option<Taken> {
        let mut state = self.lock();
        for (tenant, priority, tokens) in offer.generated {
            state.waiting.charge(*tenant, *priority, *tokens);
        }
        while offer.idle && state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let expired = state.waiting.expire(clock());
        let mut begun = Vec::new();
        while begun.len() < offer.places
            && let Some(job) = state.waiting.next(offer.above)
        {
            state.active.insert(job.id, job.request.tenant);
            begun.push(job);
        }
        Some(Taken { begun, expired })
    }

    /// Forgets a request: finished, failed, or left by its reader.
    pub(crate) fn leave(&self, id: u64) {
        let mut state = self.lock();
        match state.active.remove(&id) {
            Some(tenant) => state.waiting.leave(tenant),
            None => drop(state.waiting.remove(id)),
        }
    }

    /// No more requests will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    pub(crate) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Sets the health, unless the engine has failed for good.
    pub(crate) fn set_health(&self, health: Health) {
        let mut state = self.lock();
        if !matches!(state.health, Health::Failed { .. }) {
            state.health = health;
        }
    }

    /// Takes the engine out of service. Those who wait are told by the end of their channel.
    pub(crate) fn fail(&self, reason: String) {
        let mut state = self.lock();
        state.health = Health::Failed { reason };
        state.active.clear();
        state.waiting = Waiting::default();
    }

    /// Requests that wait and requests being computed.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.active.len())
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards sound state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
