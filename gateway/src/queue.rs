//! The bounded priority queue in front of a backend.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::keys::Priority;

/// Lets a fixed number of calls in at once. The others wait, the higher priority first and equals in the order of
/// their arrival.
pub(crate) struct Queue {
    state: Mutex<State>,
}

struct State {
    free: usize,
    next: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Place>>,
}

/// Sorts by priority, highest first, then by arrival.
type Ticket = (Reverse<Priority>, u64);

/// How many may wait, and how long; read per call, so that a change counts at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub calls: usize,
    pub wait_ms: u64,
}

impl Queue {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: places, next: 0, waiting: BTreeMap::new() }) })
    }

    /// A place in front of the backend, at once or after waiting. Dropping the future gives up waiting.
    ///
    /// # Errors
    /// [`ApiError::QueueFull`] at once, [`ApiError::QueueTimeout`] after `patience.wait_ms`.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        priority: Priority,
        patience: Patience,
    ) -> Result<Place, ApiError> {
        let mut waiter = match self.join(priority, patience.calls)? {
            Joined::In(place) => return Ok(place),
            Joined::Waiting(waiter) => waiter,
        };
        let limit = Duration::from_millis(patience.wait_ms);
        match tokio::time::timeout(limit, &mut waiter.called).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(ApiError::internal("a waiting call was forgotten by its queue")),
            Err(_) => Err(ApiError::QueueTimeout { waited_ms: patience.wait_ms }),
        }
    }

    /// Calls that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn join(self: &Arc<Self>, priority: Priority, most: usize) -> Result<Joined, ApiError> {
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Joined::In(Place { queue: self.clone() }));
        }
        if state.waiting.len() >= most {
            return Err(ApiError::QueueFull { waiting: state.waiting.len() });
        }
        let ticket = (Reverse(priority), state.next);
        state.next += 1;
        let (call, called) = oneshot::channel();
        state.waiting.insert(ticket, call);
        Ok(Joined::Waiting(Waiter { queue: self.clone(), ticket, called }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Joined {
    In(Place),
    Waiting(Waiter),
}

struct Waiter {
    queue: Arc<Queue>,
    ticket: Ticket,
    called: oneshot::Receiver<Place>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.queue.lock().waiting.remove(&self.ticket);
    }
}

/// One of the places; dropping it calls the next waiter in.
pub(crate) struct Place {
    queue: Arc<Queue>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut state = self.queue.lock();
            let next = state.waiting.pop_first();
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some((_, call)) = next {
            // A place that nobody takes any more comes back as an error, is dropped here, and calls the one after.
            drop(call.send(Place { queue: self.queue.clone() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Patience = Patience { calls: 8, wait_ms: 60_000 };

    #[tokio::test]
    async fn the_higher_priority_goes_first_and_equals_in_order() {
        let queue = Queue::new(1);
        let place = queue.enter(Priority::Normal, PATIENT).await.expect("free");
        let (order, mut ends) = tokio::sync::mpsc::unbounded_channel();
        for (index, (name, priority)) in [
            ("low", Priority::Low),
            ("one", Priority::Normal),
            ("two", Priority::Normal),
            ("high", Priority::High),
        ]
        .into_iter()
        .enumerate()
        {
            let (queue_of, order) = (queue.clone(), order.clone());
            tokio::spawn(async move {
                let _place = queue_of.enter(priority, PATIENT).await.expect("a place in the end");
                order.send(name).expect("the test listens");
            });
            while queue.waiting() <= index {
                tokio::task::yield_now().await;
            }
        }
        drop(place);
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(ends.recv().await.expect("four ends"));
        }
        assert_eq!(names, ["high", "one", "two", "low"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_long_wait_ends() {
        let queue = Queue::new(1);
        let place = queue.enter(Priority::Normal, PATIENT).await.expect("free");
        let none = Patience { calls: 0, wait_ms: 5 };
        assert!(matches!(queue.enter(Priority::High, none).await, Err(ApiError::QueueFull { waiting: 0 })));
        let short = Patience { calls: 1, wait_ms: 50 };
        let timeout = queue.enter(Priority::High, short).await;
        assert!(matches!(timeout, Err(ApiError::QueueTimeout { waited_ms: 50 })));
        assert_eq!(queue.waiting(), 0);
        drop(place);
        assert!(queue.enter(Priority::Low, none).await.is_ok());
    }

    #[tokio::test]
    async fn a_waiter_that_left_is_passed_over() {
        let queue = Queue::new(1);
        let place = queue.enter(Priority::Normal, PATIENT).await.expect("free");
        let gone = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.enter(Priority::High, PATIENT).await.map(drop) })
        };
        while queue.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.expect_err("aborted").is_cancelled());
        assert_eq!(queue.waiting(), 0);
        drop(place);
        assert!(queue.enter(Priority::Normal, Patience { calls: 0, wait_ms: 1 }).await.is_ok());
    }
}
