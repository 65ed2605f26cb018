//! The follower as a task: looks at the chain at an interval or when hinted, and waits longer while the node is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{Follower, Position};
use crate::{Error, Result};

/// Longest pause between two attempts to reach a node that is away.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What the follower is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Has not seen the chain yet.
    Starting,
    /// Has caught up.
    Following(Position),
    /// Cannot read the chain now and tries again.
    Retrying {
        /// What went wrong last.
        problem: String,
    },
    /// Found what it must not follow, and stopped.
    Stopped {
        /// Why, and what to do.
        problem: String,
    },
}

/// A running follower. Dropping the handle stops it.
pub struct FollowerHandle {
    status: watch::Receiver<Status>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl FollowerHandle {
    /// What the follower is doing, now and as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Makes the follower look at the chain now: a transaction was mined, or a WebSocket said so.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// A hint that can be handed to others; notifying it is [`FollowerHandle::wake`].
    pub fn wake_hint(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Waits until block `number` has been applied.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `patience`, or when the follower has stopped.
    pub async fn reached(&self, number: u64, patience: Duration) -> Result<()> {
        self.wake();
        let mut status = self.status.clone();
        let there = |s: &Status| matches!(s, Status::Following(at) if at.head.number >= number);
        let what = || Error::TimedOut {
            what: format!("following the chain to block {number}"),
            waited_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        };
        match tokio::time::timeout(patience, status.wait_for(there)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(what()),
        }
    }

    /// Stops the follower after the look in progress and gives the error that it stopped with by itself, if any.
    ///
    /// # Errors
    /// The final error of [`Follower::poll`].
    pub async fn stop(self) -> Result<()> {
        // The task is gone already if nobody listens.
        let _ = self.stop.send(true);
        match self.task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ok(()),
        }
    }
}

impl Follower {
    /// Runs the follower as a task of the current tokio runtime.
    pub fn spawn(self) -> FollowerHandle {
        let (status_sender, status) = watch::channel(Status::Starting);
        let (stop, stopped) = watch::channel(false);
        let wake = Arc::new(Notify::new());
        let task = tokio::spawn(run(self, status_sender, stopped, wake.clone()));
        FollowerHandle { status, wake, stop, task }
    }
}

async fn run(
    mut follower: Follower,
    status: watch::Sender<Status>,
    mut stop: watch::Receiver<bool>,
    wake: Arc<Notify>,
) -> Result<()> {
    let mut pause = follower.poll;
    loop {
        match follower.poll().await {
            Ok(position) => {
                pause = follower.poll;
                status.send_replace(Status::Following(position));
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, retry_in_ms = pause.as_millis(), "cannot read the chain");
                status.send_replace(Status::Retrying { problem: error.to_string() });
                pause = (pause * 2).min(MAX_BACKOFF).max(follower.poll);
            }
            Err(error) => {
                tracing::error!(%error, "stopped following the chain");
                status.send_replace(Status::Stopped { problem: error.to_string() });
                return Err(error);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wake.notified() => {}
            // An error means that the handle was dropped, which stops the follower too.
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}
