//! What the ledger stores, as JSON values: amounts are integers named by their unit.

use alloy::primitives::{B256, Bytes};
use serde::{Deserialize, Serialize};

use crate::transitions::{Progress, State};

/// Names a window: windows of a journal count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    /// Random id of the journal.
    pub journal: B256,
    /// Number of the window within it.
    pub window: u64,
}

impl std::fmt::Display for WindowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "window {} of journal {}", self.window, self.journal)
    }
}

/// What a window holds for one model, as `postSeal` takes it: Merkle-sum roots with their sums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRow {
    /// The model.
    pub model: B256,
    /// Root over the calls of prepaid keys; zero for none.
    pub prepaid_root: B256,
    /// Their sum.
    pub prepaid_pico: u128,
    /// Root over the calls paid by channel; zero for none.
    pub channel_root: B256,
    /// Their sum.
    pub channel_pico: u128,
}

/// A payer's voucher as journaled: the highest of its lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVoucher {
    /// Most that the lane may be charged in all.
    pub max_pico: u128,
    /// Last unix second at which it can be redeemed.
    pub expiry: u64,
    /// The channel signer's 65 bytes over the voucher's digest.
    pub signature: Bytes,
}

/// The operator's claim on a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredClaim {
    /// Served in all, up to the seal, and not above the voucher.
    pub cumulative_pico: u128,
    /// Digest of the seal that proves it.
    pub seal_digest: B256,
    /// The operator's 65 bytes over the claim's digest.
    pub signature: Bytes,
}

/// A voucher with the claim on it: one row of `redeemBatch`, and of `claims/<window>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeemRow {
    /// The payer's channel.
    pub channel: B256,
    /// The lane: a model.
    pub model: B256,
    /// The payer's word.
    pub voucher: StoredVoucher,
    /// The operator's word.
    pub claim: StoredClaim,
}

/// A channel lane as of a window's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneTotal {
    /// The payer's channel.
    pub channel: B256,
    /// The model.
    pub model: B256,
    /// Served in all, over every journal, up to this window's end.
    pub served_pico: u128,
    /// The lane's highest voucher, if the meter ever saw one.
    pub voucher: Option<StoredVoucher>,
}

/// A sealed window on its way to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// Which window.
    pub key: WindowKey,
    /// Digest of its seal.
    pub seal_digest: B256,
    /// How far it has come.
    pub progress: Progress,
    /// Per model, in order of model id.
    pub rows: Vec<SealRow>,
    /// The channel lanes that the seal names, as of the window's end.
    pub lanes: Vec<LaneTotal>,
    /// Voucher and claim of each lane that has a voucher; filled when the window is signed.
    pub claims: Vec<RedeemRow>,
    /// Gas that posting took, over all chunks; known once confirmed.
    pub gas_used: u64,
}

/// One payer's lane over all journals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRecord {
    /// The payer's channel.
    pub channel: B256,
    /// The model.
    pub model: B256,
    /// Served in all sealed windows.
    pub served_pico: u128,
    /// The highest voucher.
    pub voucher: Option<StoredVoucher>,
    /// The latest claim, signed.
    pub claim: Option<RedeemRow>,
    /// Paid on chain, base units, as last seen at finality.
    pub paid_units: u128,
    /// A claim up to which the chain passed the lane over although there was something to redeem: not tried again
    /// until the claim is higher. 0 for none.
    pub refused_pico: u128,
    /// Unix milliseconds at which value began to wait for a batch; 0 when none waits.
    pub waiting_since_ms: u64,
}

/// A redeem batch on its way to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Counts from 0.
    pub number: u64,
    /// How far it has come.
    pub progress: Progress,
    /// Its rows.
    pub rows: Vec<RedeemRow>,
    /// Gas that it took; known once confirmed.
    pub gas_used: u64,
}

impl WindowRecord {
    /// Its current state.
    pub fn state(&self) -> State {
        self.progress.state
    }
}

impl BatchRecord {
    /// Its current state.
    pub fn state(&self) -> State {
        self.progress.state
    }
}
