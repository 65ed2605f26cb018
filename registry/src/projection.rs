//! From the follower's logs to published snapshots.
//!
//! Two states are kept: after the last final block, and after the head. A reorganisation starts again from the final
//! one and the logs that stay, so there is nothing to undo and nothing to get wrong in undoing.

use std::sync::Arc;
use std::time::Instant;

use dividend_chain::{Deployment, Follower, Head, Log, Projection, Result, Rpc};
use dividend_config::Chain;
use tokio::sync::watch;

use crate::state::State;
use crate::{BlockRef, Snapshot};

/// Publishes a snapshot whenever the follower has looked at the chain. Before its first look the snapshot is empty and
/// endlessly old.
pub fn follow(follower: &mut Follower, deployment: &Deployment) -> watch::Receiver<Arc<Snapshot>> {
    let (publisher, snapshots) = watch::channel(Arc::new(Snapshot::unseen()));
    follower.attach(Registry::new(deployment.clone(), publisher));
    snapshots
}

/// Reads the whole history again, into memory, and gives the snapshot that it leads to. Its state hash must be that of the
/// live snapshot of the same block.
///
/// # Errors
/// As [`Follower::poll`].
pub async fn rebuild(rpc: Rpc, deployment: &Deployment, settings: &Chain) -> crate::Result<Arc<Snapshot>> {
    let mut follower = Follower::open(rpc, deployment, None, settings)?;
    let snapshots = follow(&mut follower, deployment);
    follower.poll().await?;
    let snapshot = snapshots.borrow().clone();
    Ok(snapshot)
}

struct Registry {
    deployment: Deployment,
    /// After the newest block known to be final.
    last_final: State,
    /// After the newest block.
    head: State,
    /// Blocks with logs that `head` has and `last_final` has not.
    pending: Vec<(Head, Vec<Log>)>,
    publisher: watch::Sender<Arc<Snapshot>>,
    /// Whether `head` or `last_final` changed since the last publication.
    changed: bool,
}

impl Registry {
    fn new(deployment: Deployment, publisher: watch::Sender<Arc<Snapshot>>) -> Self {
        let (last_final, head) = (State::default(), State::default());
        Self { deployment, last_final, head, pending: Vec::new(), publisher, changed: true }
    }

    fn settle(&mut self, finalized: u64) -> Result<()> {
        let split = self.pending.partition_point(|(block, _)| block.number <= finalized);
        for (_, logs) in self.pending.drain(..split) {
            self.changed = true;
            for log in &logs {
                self.last_final.apply(&self.deployment, log)?;
            }
        }
        Ok(())
    }
}

impl Projection for Registry {
    fn apply(&mut self, block: Head, logs: &[Log]) -> Result<()> {
        if logs.is_empty() {
            return Ok(());
        }
        self.changed = true;
        for log in logs {
            self.head.apply(&self.deployment, log)?;
        }
        self.pending.push((block, logs.to_vec()));
        Ok(())
    }

    fn revert(&mut self, ancestor: u64) -> Result<()> {
        self.changed = true;
        self.pending.retain(|(block, _)| block.number <= ancestor);
        self.head = self.last_final.clone();
        for (_, logs) in &self.pending {
            for log in logs {
                self.head.apply(&self.deployment, log)?;
            }
        }
        Ok(())
    }

    fn observed(&mut self, head: Head, finalized: u64) -> Result<()> {
        self.settle(finalized)?;
        let block = BlockRef { number: head.number, hash: head.hash, timestamp_s: head.timestamp_s };
        let now = Instant::now();
        let snapshot = match std::mem::take(&mut self.changed) {
            false => self.publisher.borrow().seen_at(block, finalized, now),
            true => {
                let channels = Arc::new(self.head.prudent_channels(&self.last_final));
                Snapshot::new(block, finalized, now, Arc::new(self.head.clone()), channels)
            }
        };
        self.publisher.send_replace(Arc::new(snapshot));
        Ok(())
    }
}
