//! The aggregate: totals per (window, payer, model) where others can read them. A cache of the journal, never the truth.
//!
//! A window's totals are **absolute** and carry a **fence**: the journal offset that they are complete up to. A
//! publication names the fence it builds on, and changes nothing if the store holds another; then everything is sent
//! anew. So a lost reply, a retry, a wipe and a failover to an old replica all end in the same totals.
//!
//! A publication is one write. Where there are too many rows for one, all but the last leave a fence that says that the
//! totals are partial; readers then have no fence to trust, and the writer, should it die there, begins again.

mod fold;
mod memory;
mod redis;
mod rows;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use alloy::primitives::B256;

use crate::Totals;

pub use crate::ledger::RowKey;
pub(crate) use fold::Fold;
pub use memory::MemoryStore;
pub use redis::RedisStore;

/// A window of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowKey {
    /// The journal.
    pub journal: B256,
    /// The window's number.
    pub window: u64,
}

/// How far a window's totals reach. Text form: the offset, with `~` before it while partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Complete up to this journal offset.
    At(u64),
    /// A publication of several writes is under way: so many of them were made.
    Partial(u64),
}

/// A window's totals as a store holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// How far they reach.
    pub fence: Fence,
    /// Rows with at least one call.
    pub rows: BTreeMap<RowKey, Totals>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It was made.
    Done,
    /// Nothing was changed: the store holds this fence, not the expected one.
    Other(Option<Fence>),
}

/// Why a store did not answer, or not sensibly.
#[derive(Clone, Debug, thiserror::Error)]
#[error("aggregate store {store}: {problem}")]
pub struct StoreError {
    /// Which store.
    pub store: String,
    /// What is wrong.
    pub problem: String,
}

/// Most rows that one write carries.
pub const MAX_ROWS: usize = 1_000;

/// A place for aggregates. One writer per journal; any number of readers, who sum over journals.
pub trait AggregateStore: Send {
    /// In one atomic write: if the window's fence is `expected`, sets these rows (at most [`MAX_ROWS`]) and the new fence.
    fn publish(
        &mut self,
        key: WindowKey,
        expected: Option<Fence>,
        rows: &[(RowKey, Totals)],
        fence: Fence,
    ) -> impl Future<Output = Result<Published, StoreError>> + Send;

    /// The window's fence.
    fn fence(&mut self, key: WindowKey) -> impl Future<Output = Result<Option<Fence>, StoreError>> + Send;

    /// The window's totals, all at one moment.
    fn read(&mut self, key: WindowKey) -> impl Future<Output = Result<Option<Aggregate>, StoreError>> + Send;

    /// Makes a window findable through [`AggregateStore::windows`]. Repeating it changes nothing.
    fn announce(&mut self, key: WindowKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Every announced window of every journal, in order.
    fn windows(&mut self) -> impl Future<Output = Result<Vec<WindowKey>, StoreError>> + Send;

    /// Forgets a window.
    fn retire(&mut self, key: WindowKey) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Fence {
    /// The offset, unless the totals are partial.
    pub fn offset(self) -> Option<u64> {
        match self {
            Self::At(offset) => Some(offset),
            Self::Partial(_) => None,
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(offset) => write!(f, "{offset}"),
            Self::Partial(writes) => write!(f, "~{writes}"),
        }
    }
}

impl std::str::FromStr for Fence {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('~') {
            Some(writes) => writes.parse().map(Self::Partial),
            None => text.parse().map(Self::At),
        }
    }
}
