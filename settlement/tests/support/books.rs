//! The real chain, with a block mined at every look, so that finality needs no waiting; and with faults.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alloy::primitives::B256;
use dividend_chain::testing::Anvil;
use dividend_settlement::books::{Books, Escrow, Fate, Heights, PrepaidLane};
use dividend_settlement::plan::{ChannelFunds, Intent};
use dividend_settlement::records::WindowKey;
use dividend_settlement::settler::{Point, Probe};
use dividend_settlement::{Error, OnChain, Result};

/// Mines a block whenever the settler looks at the chain's height.
pub struct Mining {
    pub chain: OnChain,
    pub anvil: Arc<Anvil>,
}

impl Mining {
    fn ask(&self) -> Result<()> {
        Ok(())
    }
}

/// Fails about every `every`-th request, the first among them, as an unreachable node would.
pub struct Flaky {
    pub books: Mining,
    pub every: u64,
    pub asked: AtomicU64,
}

impl Flaky {
    fn ask(&self) -> Result<()> {
        match scattered(self.asked.fetch_add(1, Ordering::Relaxed)) % self.every {
            0 => Err(unreachable()),
            _ => Ok(()),
        }
    }
}

/// Faults must not fall into step with the turns, yet be the same in every run: the finaliser of splitmix64.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub fn unreachable() -> Error {
    let (endpoint, problem) = ("http://127.0.0.1:1".to_owned(), "connection refused".to_owned());
    dividend_chain::Error::Unreachable { endpoint, problem }.into()
}

macro_rules! forwarded_reads {
    ($self:ident, $to:expr) => {
        async fn next_window(&$self, journal: B256, block: u64) -> Result<u64> {
            $self.ask()?;
            $to.next_window(journal, block).await
        }
        async fn posted_row(&$self, key: WindowKey, model: B256, block: u64) -> Result<B256> {
            $self.ask()?;
            $to.posted_row(key, model, block).await
        }
        async fn knows_model(&$self, model: B256, block: u64) -> Result<bool> {
            $self.ask()?;
            $to.knows_model(model, block).await
        }
        async fn escrow(&$self, block: u64) -> Result<Escrow> {
            $self.ask()?;
            $to.escrow(block).await
        }
        async fn prepaid_lane(&$self, model: B256, block: u64) -> Result<PrepaidLane> {
            $self.ask()?;
            $to.prepaid_lane(model, block).await
        }
        async fn channel(&$self, channel: B256, block: u64) -> Result<ChannelFunds> {
            $self.ask()?;
            $to.channel(channel, block).await
        }
        async fn lane_paid(&$self, channel: B256, model: B256, block: u64) -> Result<u128> {
            $self.ask()?;
            $to.lane_paid(channel, model, block).await
        }
        async fn fate(&$self, id: &str) -> Result<Fate> {
            $self.ask()?;
            $to.fate(id).await
        }
    };
}

impl Books for Mining {
    async fn heights(&self) -> Result<Heights> {
        self.anvil.mine(1).await?;
        self.chain.heights().await
    }
    async fn submit(&self, intent: &Intent) -> Result<()> {
        self.chain.submit(intent).await
    }
    forwarded_reads!(self, self.chain);
}

impl Books for Flaky {
    async fn heights(&self) -> Result<Heights> {
        self.ask()?;
        self.books.heights().await
    }
    /// The worst of both: the node took the transaction and the answer was lost.
    async fn submit(&self, intent: &Intent) -> Result<()> {
        self.books.submit(intent).await?;
        self.ask()
    }
    forwarded_reads!(self, self.books);
}

/// Stops the settler at the first point that it has not stopped at before: a kill at every point, one after the other.
#[derive(Default)]
pub struct KillEverywhere {
    seen: Mutex<BTreeSet<Point>>,
}

impl KillEverywhere {
    pub fn points(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Probe for KillEverywhere {
    fn reached(&self, point: &Point) -> Result<()> {
        match self.seen.lock().unwrap().insert(point.clone()) {
            true => Err(Error::Stopped(format!("{point:?}"))),
            false => Ok(()),
        }
    }
}

/// Stops the settler at the `nth` point, counted from 0, whatever it is.
pub struct KillAt {
    pub nth: u64,
    pub passed: AtomicU64,
}

impl Probe for KillAt {
    fn reached(&self, point: &Point) -> Result<()> {
        match self.passed.fetch_add(1, Ordering::Relaxed) {
            passed if passed == self.nth => Err(Error::Stopped(format!("{point:?}"))),
            _ => Ok(()),
        }
    }
}
