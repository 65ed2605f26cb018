//! Requests that wait, and those being computed, behind one lock.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::Health;
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
    /// Highest priority first; equals in order of arrival.
    waiting: VecDeque<Job>,
    /// Taken by the worker, and still read by somebody.
    active: HashSet<u64>,
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
            waiting: VecDeque::new(),
            active: HashSet::new(),
            next_id: 0,
            closed: false,
            health: Health::Ready,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), capacity, waiting_limit }
    }

    /// Adds so many jobs, or none: `make` builds each for its id and choice.
    pub(crate) fn push(
        self: &Arc<Self>,
        priority: Priority,
        choices: usize,
        make: impl Fn(u64, usize) -> Job,
    ) -> Result<Ticket, SubmitError> {
        let mut state = self.lock();
        if let Health::Failed { reason } = &state.health {
            return Err(SubmitError::Unhealthy { reason: reason.clone() });
        }
        if state.waiting.len() + state.active.len() + choices > self.capacity {
            return Err(SubmitError::QueueFull { limit: self.waiting_limit });
        }
        let ids = state.next_id..state.next_id + choices as u64;
        state.next_id = ids.end;
        let place = state.waiting.partition_point(|job| job.request.priority >= priority);
        for (choice, id) in ids.clone().enumerate() {
            state.waiting.insert(place + choice, make(id, choice));
        }
        drop(state);
        self.wake.notify_one();
        Ok(Ticket { ids, queue: Arc::clone(self) })
    }

    /// Up to `places` jobs for the worker. With `idle` it waits for one; `None` then means that the engine
    /// was closed and nobody waits any more.
    pub(crate) fn take(&self, places: usize, idle: bool) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while idle && state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = places.min(state.waiting.len());
        let jobs: Vec<Job> = state.waiting.drain(..count).collect();
        state.active.extend(jobs.iter().map(|job| job.id));
        Some(jobs)
    }

    /// Forgets a request: finished, failed, or left by its reader.
    pub(crate) fn leave(&self, id: u64) {
        let mut state = self.lock();
        state.active.remove(&id);
        state.waiting.retain(|job| job.id != id);
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
        state.waiting.clear();
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
