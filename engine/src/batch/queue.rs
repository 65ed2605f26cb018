//! Requests that wait, behind one lock.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Model;
use crate::scheduler::Health;
use crate::{GenerationError, SubmitError};

/// A request on its way to the worker.
pub(super) struct Job<M: Model> {
    pub(super) inputs: Vec<M::Input>,
    pub(super) answer: oneshot::Sender<Result<Vec<M::Output>, GenerationError>>,
}

/// The meeting point of callers and worker.
pub(super) struct Queue<M: Model> {
    state: Mutex<State<M>>,
    wake: Condvar,
    limit: usize,
}

struct State<M: Model> {
    waiting: VecDeque<Job<M>>,
    active: usize,
    closed: bool,
    health: Health,
}

impl<M: Model> Queue<M> {
    pub(super) fn new(limit: usize) -> Self {
        let state = State { waiting: VecDeque::new(), active: 0, closed: false, health: Health::Ready };
        Self { state: Mutex::new(state), wake: Condvar::new(), limit }
    }

    /// Adds a request. Those whose caller has left make room first.
    pub(super) fn push(&self, job: Job<M>) -> Result<(), SubmitError> {
        let mut state = self.lock();
        if let Health::Failed { reason } = &state.health {
            return Err(SubmitError::Unhealthy { reason: reason.clone() });
        }
        if state.waiting.len() >= self.limit {
            state.waiting.retain(|job| !job.answer.is_closed());
        }
        if state.waiting.len() >= self.limit {
            return Err(SubmitError::QueueFull { limit: self.limit });
        }
        state.waiting.push_back(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Up to `places` requests for the worker, which has `active` others. If it has none it waits for one; `None` then
    /// means that the service was closed and nobody waits any more.
    pub(super) fn take(&self, places: usize, active: usize) -> Option<Vec<Job<M>>> {
        let mut state = self.lock();
        state.active = active;
        while active == 0 && state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = places.min(state.waiting.len());
        let jobs: Vec<_> = state.waiting.drain(..count).collect();
        state.active += count;
        Some(jobs)
    }

    /// No more requests will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    pub(super) fn set_health(&self, health: Health) {
        self.lock().health = health;
    }

    /// Takes the service out of service. Those who wait are told by the end of their channel.
    pub(super) fn fail(&self, reason: String) {
        let mut state = self.lock();
        state.health = Health::Failed { reason };
        state.active = 0;
        state.waiting.clear();
    }

    /// Requests that wait and requests being computed.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.active)
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards sound state.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
