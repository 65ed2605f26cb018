//! One reorg-safe reader of the contracts' logs, for every part that needs them.
//!
//! A look at the chain ([`Follower::poll`]) finds the newest block that is still canonical, cuts what a reorganisation
//! removed, and reads on: final blocks in ranges, the rest block by block, each checked to be the child of the one
//! before. [`Projection`]s see the logs in order and are told to forget when blocks are removed. A chain that
//! contradicts a final block, or reorganises too deep, stops the follower with an error that says so.

mod run;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use dividend_config::{Chain, Finality};

pub use run::{FollowerHandle, Status};
pub(crate) use store::open_error;
use store::{Parentage, Store, Stored};

use crate::rpc::Header;
use crate::{At, Deployment, Error, Head, Log, Result, Rpc};

/// Deepest reorganisation that is followed; Ethereum's finality is two epochs of 32 blocks.
pub const DEFAULT_MAX_REORG_DEPTH: u64 = 96;
/// Final blocks are read as a range from this many on; fewer are read one by one.
const RANGE_FROM: u64 = 16;

/// What builds its state from the contracts' logs.
pub trait Projection: Send + Sync {
    /// Takes the logs of the next canonical block. Blocks without logs may be left out.
    ///
    /// # Errors
    /// [`Error::BadLog`] for a log that cannot be understood; following stops.
    fn apply(&mut self, block: Head, logs: &[Log]) -> Result<()>;

    /// Forgets every block above height `ancestor`; it is never below what was reported final.
    ///
    /// # Errors
    /// As [`Projection::apply`].
    fn revert(&mut self, ancestor: u64) -> Result<()>;

    /// Learns that everything up to `head` was applied, and that blocks up to height `finalized` will stay.
    ///
    /// # Errors
    /// As [`Projection::apply`].
    fn observed(&mut self, head: Head, finalized: u64) -> Result<()>;
}

/// Where the follower stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Newest block applied.
    pub head: Head,
    /// Height up to which blocks are final.
    pub finalized: u64,
    /// Hash over all canonical rows up to `head`: equal to that of any other follower at the same block.
    pub state_hash: B256,
}

/// Reads the logs of one deployment.
pub struct Follower {
    rpc: Rpc,
    store: Arc<Store>,
    projections: Vec<Box<dyn Projection>>,
    start: u64,
    addresses: Vec<alloy::primitives::Address>,
    finality: Finality,
    range_blocks: u64,
    max_reorg_depth: u64,
    poll: Duration,
    replayed: bool,
}

impl Follower {
    /// Opens the store at `path` (in memory without one) for the contracts of `deployment`.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process uses the store, [`Error::ForeignStore`] if it is of another deployment,
    /// [`Error::Store`] if it cannot be read.
    pub fn open(rpc: Rpc, deployment: &Deployment, path: Option<&Path>, settings: &Chain) -> Result<Self> {
        let addresses = deployment.logging_contracts();
        let (chain_id, genesis, start) = (deployment.chain_id, deployment.genesis_hash, deployment.block);
        let store = Store::open(path, &Parentage::new(chain_id, genesis, start, addresses.clone()))?;
        Ok(Self {
            rpc,
            store: Arc::new(store),
            projections: Vec::new(),
            start,
            addresses,
            finality: settings.finality,
            range_blocks: settings.max_log_blocks,
            max_reorg_depth: DEFAULT_MAX_REORG_DEPTH,
            poll: Duration::from_millis(settings.poll_ms),
            replayed: false,
        })
    }

    /// Follows reorganisations up to `blocks` deep.
    pub fn with_max_reorg_depth(mut self, blocks: u64) -> Self {
        self.max_reorg_depth = blocks;
        self
    }

    /// Adds a projection; it first sees every stored block, then what comes.
    pub fn attach(&mut self, projection: impl Projection + 'static) {
        self.projections.push(Box::new(projection));
    }

    /// Catches up with the chain once.
    ///
    /// # Errors
    /// Retryable ([`Error::is_retryable`]) while the node cannot be reached or changes its mind while being read; final:
    /// [`Error::RolledBack`], [`Error::ReorgTooDeep`], [`Error::BadLog`], [`Error::Store`].
    pub async fn poll(&mut self) -> Result<Position> {
        self.replay()?;
        let newest = self.newest().await?;
        self.reconcile(newest.head).await?;
        let finalized = self.final_height(newest.head).await?;
        self.read_ranges(finalized).await?;
        self.read_blocks(&newest, finalized).await?;
        self.check_tip().await?;
        let position = self.position()?.ok_or_else(|| self.rpc.missing("block of the deployment"))?;
        for projection in &mut self.projections {
            projection.observed(position.head, position.finalized)?;
        }
        Ok(position)
    }

    /// Where the follower stands, if it has read any block.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn position(&self) -> Result<Option<Position>> {
        let finalized = self.store.finalized()?.unwrap_or(0);
        let tip = self.store.tip()?;
        Ok(tip.map(|Stored { head, state_hash, .. }| Position { head, finalized, state_hash }))
    }

    /// Hash over all canonical rows up to height `number`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn state_hash_at(&self, number: u64) -> Result<B256> {
        Ok(self.store.at_or_below(number)?.map_or(B256::ZERO, |stored| stored.state_hash))
    }

    /// Shows the projections what the store already has.
    fn replay(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.replayed, true) {
            return Ok(());
        }
        for (head, logs) in self.store.blocks(0..=u64::MAX)? {
            for projection in &mut self.projections {
                projection.apply(head, &logs)?;
            }
        }
        Ok(())
    }

    /// The highest head that any endpoint knows, asking the others only while the preferred one lags behind the tip.
    async fn newest(&self) -> Result<Header> {
        let tip = self.store.tip()?;
        let known = tip.map_or(0, |tip| tip.head.number);
        let mut best = self.latest().await?;
        for _ in 1..self.rpc.endpoints() {
            if best.head.number >= known {
                break;
            }
            self.rpc.prefer_next();
            let other = self.latest().await?;
            if other.head.number > best.head.number {
                best = other;
            }
        }
        Ok(best)
    }

    async fn latest(&self) -> Result<Header> {
        self.rpc.header(At::Latest).await?.ok_or_else(|| self.rpc.missing("latest block"))
    }

    /// Cuts the blocks that are no longer canonical.
    async fn reconcile(&mut self, newest: Head) -> Result<()> {
        let Some(tip) = self.store.tip()? else { return Ok(()) };
        if newest == tip.head || (newest.parent == tip.head.hash && newest.number == tip.head.number + 1) {
            return Ok(());
        }
        let ancestor = self.common_ancestor(tip.head, newest).await?;
        if ancestor == tip.head.number {
            return Ok(());
        }
        tracing::warn!(from = tip.head.number, to = ancestor, "the chain reorganised: cutting back");
        let store = self.store.clone();
        blocking(move || store.cut(ancestor)).await?;
        for projection in &mut self.projections {
            projection.revert(ancestor)?;
        }
        Ok(())
    }

    async fn common_ancestor(&self, tip: Head, newest: Head) -> Result<u64> {
        let finalized = self.store.finalized()?.unwrap_or(0);
        let mut mine = tip;
        loop {
            let theirs = match mine.number <= newest.number {
                true => self.rpc.head(At::Number(mine.number)).await?,
                false => None,
            };
            if theirs.is_some_and(|theirs| theirs.hash == mine.hash) {
                return Ok(mine.number);
            }
            if mine.number <= finalized {
                let found = theirs.map_or_else(
                    || format!("no such block: its head is block {}", newest.number),
                    |theirs| theirs.hash.to_string(),
                );
                return Err(Error::RolledBack { number: mine.number, expected: mine.hash, found });
            }
            if tip.number - mine.number >= self.max_reorg_depth {
                return Err(Error::ReorgTooDeep { head: tip.number, max: self.max_reorg_depth });
            }
            match self.store.at_or_below(mine.number - 1)? {
                Some(below) => mine = below.head,
                None => return Ok(mine.number.saturating_sub(1)),
            }
        }
    }

    /// Height up to which the chain is final; it never falls.
    async fn final_height(&self, newest: Head) -> Result<u64> {
        let now = self.rpc.final_height(self.finality).await?;
        Ok(now.min(newest.number).max(self.store.finalized()?.unwrap_or(0)))
    }

    /// Reads final blocks in ranges, smaller ones if the node refuses.
    async fn read_ranges(&mut self, finalized: u64) -> Result<()> {
        let mut width = self.range_blocks.max(1);
        loop {
            let tip = self.store.tip()?.map(|tip| tip.head);
            let from = tip.map_or(self.start, |tip| tip.number + 1);
            if from.saturating_add(RANGE_FROM) > finalized {
                return Ok(());
            }
            let to = finalized.min(from.saturating_add(width - 1));
            match self.read_range(tip, from, to).await {
                Ok(blocks) => self.take(blocks, to).await?,
                Err(Error::Refused { .. }) if width > 1 => width /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_range(&self, tip: Option<Head>, from: u64, to: u64) -> Result<Vec<(Head, Vec<Log>)>> {
        let first = self.canonical(from).await?;
        if tip.is_some_and(|tip| tip.hash != first.head.parent) {
            return Err(self.rpc.unsettled(format!("block {from} changed while it was read")));
        }
        let mut by_block = BTreeMap::<u64, Vec<Log>>::new();
        by_block.insert(to, Vec::new());
        for log in self.rpc.logs_between(&self.addresses, from, to).await? {
            by_block.entry(log.block_number).or_default().push(log);
        }
        let mut blocks = Vec::with_capacity(by_block.len());
        for (number, logs) in by_block {
            let head = self.canonical(number).await?.head;
            if let Some(stray) = logs.iter().find(|log| log.block_hash != head.hash) {
                let (was, is) = (stray.block_hash, head.hash);
                return Err(self
                    .rpc
                    .unsettled(format!("logs of block {number} are of {was}, but it is {is}")));
            }
            blocks.push((head, logs));
        }
        Ok(blocks)
    }

    /// Reads on to the newest block, one by one, each the child of the one before.
    async fn read_blocks(&mut self, newest: &Header, finalized: u64) -> Result<()> {
        let mut tip = self.store.tip()?.map(|tip| tip.head);
        loop {
            let number = tip.map_or(self.start, |tip| tip.number + 1);
            if number > newest.head.number {
                break;
            }
            let header = match number == newest.head.number {
                true => newest.clone(),
                false => self.canonical(number).await?,
            };
            if tip.is_some_and(|tip| tip.hash != header.head.parent) {
                return Err(self.rpc.unsettled(format!("block {number} changed while it was read")));
            }
            let logs = match header.may_log(&self.addresses) {
                true => self.rpc.logs_of(&self.addresses, header.head).await?,
                false => Vec::new(),
            };
            self.take(vec![(header.head, logs)], finalized.min(number)).await?;
            tip = Some(header.head);
        }
        self.take(Vec::new(), finalized).await
    }

    /// Stores blocks, then shows them to the projections.
    async fn take(&mut self, blocks: Vec<(Head, Vec<Log>)>, finalized: u64) -> Result<()> {
        if blocks.is_empty() && self.store.finalized()?.unwrap_or(0) >= finalized {
            return Ok(());
        }
        let store = self.store.clone();
        let blocks = blocking(move || store.append(&blocks, finalized).map(|()| blocks)).await?;
        for (head, logs) in &blocks {
            for projection in &mut self.projections {
                projection.apply(*head, logs)?;
            }
        }
        Ok(())
    }

    /// A block that was replaced while its logs were read is found here, before anybody sees the position.
    async fn check_tip(&self) -> Result<()> {
        let Some(tip) = self.store.tip()? else { return Ok(()) };
        let now = self.rpc.head(At::Number(tip.head.number)).await?;
        match now.is_some_and(|now| now.hash == tip.head.hash) {
            true => Ok(()),
            false => Err(self.rpc.unsettled(format!("block {} changed while it was read", tip.head.number))),
        }
    }

    async fn canonical(&self, number: u64) -> Result<Header> {
        self.rpc.header(At::Number(number)).await?.ok_or_else(|| self.rpc.missing(&format!("block {number}")))
    }
}

/// Runs a short write to disk off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
