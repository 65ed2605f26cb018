//! The chain as settlement needs it: a few reads at a block, and transactions under ids that are sent once.
//!
//! [`crate::onchain::OnChain`] is the real one. Tests wrap it to fail, to stop and to count.

use std::future::Future;

use alloy::primitives::B256;

use crate::Result;
use crate::plan::{ChannelFunds, Intent};
use crate::records::WindowKey;

/// The two heights that settlement looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heights {
    /// The newest block.
    pub head: u64,
    /// The newest block that counts for money.
    pub finalized: u64,
}

/// The operator's own channel, in base units (royalty owed: of all models).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Escrow {
    /// What is left to pay royalties from.
    pub balance_units: u128,
    /// Royalty posted and not paid.
    pub owed_units: u128,
}

/// A model's prepaid lane on chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepaidLane {
    /// Posted in all, pico-dollars.
    pub accrued_pico: u128,
    /// Royalty paid, base units.
    pub paid_units: u128,
    /// Royalty owed above it, base units.
    pub owed_units: u128,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Never submitted.
    Unknown,
    /// On its way, or mined and not final.
    Pending,
    /// Mined, successful and final.
    Done {
        /// Gas that it used.
        gas_used: u64,
        /// The block that holds it.
        block: u64,
    },
    /// Final without effect.
    Failed {
        /// The contract's reason.
        problem: String,
    },
}

/// Reads and transactions. Reads name the block, so that a turn sees one state of the chain.
pub trait Books: Send + Sync {
    /// The chain's heights now.
    fn heights(&self) -> impl Future<Output = Result<Heights>> + Send;

    /// The window of the journal that the chain expects next.
    fn next_window(&self, journal: B256, block: u64) -> impl Future<Output = Result<u64>> + Send;

    /// Hash of a posted row (see [`crate::seals::row_hash`]); zero if there is none.
    fn posted_row(
        &self,
        key: WindowKey,
        model: B256,
        block: u64,
    ) -> impl Future<Output = Result<B256>> + Send;

    /// Whether the model is registered.
    fn knows_model(&self, model: B256, block: u64) -> impl Future<Output = Result<bool>> + Send;

    /// The operator's escrow.
    fn escrow(&self, block: u64) -> impl Future<Output = Result<Escrow>> + Send;

    /// A model's prepaid lane.
    fn prepaid_lane(&self, model: B256, block: u64) -> impl Future<Output = Result<PrepaidLane>> + Send;

    /// A channel's deposit and payments; zero for a channel that does not exist.
    fn channel(&self, channel: B256, block: u64) -> impl Future<Output = Result<ChannelFunds>> + Send;

    /// What a lane has paid, in base units.
    fn lane_paid(&self, channel: B256, model: B256, block: u64) -> impl Future<Output = Result<u128>> + Send;

    /// Hands over an intent; the same id again changes nothing.
    fn submit(&self, intent: &Intent) -> impl Future<Output = Result<()>> + Send;

    /// What became of a submitted intent.
    fn fate(&self, id: &str) -> impl Future<Output = Result<Fate>> + Send;
}
