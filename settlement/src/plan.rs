//! From windows and lanes to transactions: pure and deterministic, so that planning again after a restart gives the
//! same transactions under the same ids, and the sender sends each once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy::primitives::{B256, keccak256};
use dividend_config::Settlement;
use serde::{Deserialize, Serialize};

use crate::books::{Escrow, PrepaidLane};
use crate::decimal;
use crate::lanes::redeemable_units;
use crate::records::{BatchRecord, LaneRecord, RedeemRow, SealRow, WindowKey, WindowRecord};

/// Most gas that one transaction may use (EIP-7825).
pub const TX_GAS_CAP: u64 = 16_777_216;

/// Gas of a `postSeal` without rows, and of each row at its dearest: the model's first royalty, so that every storage
/// slot that the row touches goes from zero to non-zero.
pub const POST_SEAL_GAS: Gas = Gas { base: 160_000, per_row: 170_000 };
/// The same of `redeemBatch`: a row that is the first payment of its lane, its channel and its model.
pub const REDEEM_GAS: Gas = Gas { base: 200_000, per_row: 190_000 };
/// The same of `claimMany`: a slot's first claim, to an account that never held the token.
pub const CLAIM_GAS: Gas = Gas { base: 60_000, per_row: 110_000 };
/// Gas of `settleOwed`.
pub const SETTLE_OWED_GAS: u64 = 250_000;

/// Seconds that must be left on a voucher for a batch to carry it: it has to be mined before it expires.
pub const EXPIRY_MARGIN_S: u64 = 30;

/// Seconds left on a voucher at which its batch no longer waits for value or age.
pub const EXPIRY_RUSH_S: u64 = 600;

/// A linear upper bound of a transaction's gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gas {
    /// Without rows.
    pub base: u64,
    /// For each row.
    pub per_row: u64,
}

impl Gas {
    /// The gas limit of a transaction with `rows` rows.
    pub fn limit(&self, rows: usize) -> u64 {
        self.base + self.per_row * rows as u64
    }

    /// Most rows that fit under [`TX_GAS_CAP`].
    pub fn max_rows(&self) -> usize {
        ((TX_GAS_CAP - self.base) / self.per_row) as usize
    }
}

/// A slot whose credit is to be paid to its payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimKey {
    /// The model that was called.
    pub model: B256,
    /// The node in its lineage.
    pub node: B256,
    /// The contributor's slot of that node.
    pub slot: u8,
}

/// What settlement asks a contract to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `UsageLedger.postSeal`: a part of a sealed window.
    PostSeal {
        /// The window.
        key: WindowKey,
        /// Rows of this chunk.
        rows: Vec<SealRow>,
        /// Whether it ends the window.
        last: bool,
    },
    /// `PaymentChannels.redeemBatch`.
    Redeem {
        /// Vouchers with their claims.
        rows: Vec<RedeemRow>,
    },
    /// `UsageLedger.settleOwed`: the escrow pays what it could not before.
    SettleOwed {
        /// The model that is owed.
        model: B256,
    },
    /// `RoyaltyPool.claimMany`.
    ClaimMany {
        /// Slots to be paid.
        keys: Vec<ClaimKey>,
    },
}

impl Call {
    /// The gas limit to send it with.
    pub fn gas_limit(&self) -> u64 {
        match self {
            Self::PostSeal { rows, .. } => POST_SEAL_GAS.limit(rows.len()),
            Self::Redeem { rows } => REDEEM_GAS.limit(rows.len()),
            Self::SettleOwed { .. } => SETTLE_OWED_GAS,
            Self::ClaimMany { keys } => CLAIM_GAS.limit(keys.len()),
        }
    }
}

/// A call under the id that names it for ever: the sender sends one transaction per id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Readable and unique: what, which, chunk, attempt.
    pub id: String,
    /// What to do.
    pub call: Call,
}

/// The transactions that post a window: chunks under the gas cap, the last one marked. A window without calls posts
/// one empty chunk, because windows of a journal are contiguous on chain.
pub fn post_seal(window: &WindowRecord) -> Vec<Intent> {
    let chunks: Vec<&[SealRow]> = match window.rows.as_slice() {
        [] => vec![&[]],
        rows => rows.chunks(POST_SEAL_GAS.max_rows()).collect(),
    };
    let count = chunks.len();
    let WindowKey { journal, window: number } = window.key;
    let attempt = window.progress.attempt;
    let intent = |(index, rows): (usize, &[SealRow])| Intent {
        id: format!("seal/{journal:x}/{number}/{index}/{attempt}"),
        call: Call::PostSeal { key: window.key, rows: rows.to_vec(), last: index + 1 == count },
    };
    chunks.into_iter().enumerate().map(intent).collect()
}

/// The transaction of a batch. The id holds the rows' hash, so that a ledger begun anew can never reuse another
/// batch's id.
pub fn redeem(batch: &BatchRecord) -> Intent {
    let id = format!("redeem/{}/{:x}/{}", batch.number, rows_hash(&batch.rows), batch.progress.attempt);
    Intent { id, call: Call::Redeem { rows: batch.rows.clone() } }
}

/// The transaction that pays a model out of the escrow what it is owed. Its id is the state that it answers, so that one
/// state is answered once.
pub fn settle_owed(model: B256, lane: PrepaidLane, escrow: Escrow) -> Intent {
    let id = format!("owed/{model:x}/{}/{}/{}", lane.accrued_pico, lane.paid_units, escrow.balance_units);
    Intent { id, call: Call::SettleOwed { model } }
}

fn rows_hash(rows: &[RedeemRow]) -> B256 {
    let mut bytes = Vec::with_capacity(rows.len() * 80);
    for row in rows {
        bytes.extend_from_slice(row.channel.as_slice());
        bytes.extend_from_slice(row.model.as_slice());
        bytes.extend_from_slice(&row.claim.cumulative_pico.to_be_bytes());
    }
    keccak256(bytes)
}

/// What the chain says about channels, as of finality, in base units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelBooks {
    /// Per channel: deposit and what all its lanes have paid.
    pub channels: BTreeMap<B256, ChannelFunds>,
    /// Per (channel, model): paid.
    pub lanes: BTreeMap<(B256, B256), u128>,
}

/// A channel's money in base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelFunds {
    /// Deposited less withdrawn.
    pub deposit_units: u128,
    /// Redeemed over all lanes.
    pub paid_units: u128,
}

/// Why a lane's value is not in a batch now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Held {
    /// The voucher can no longer be redeemed.
    Expired {
        /// Its last unix second.
        expiry: u64,
    },
    /// The channel's deposit does not cover the claim.
    NoDeposit {
        /// Base units that are uncovered.
        #[serde(with = "decimal")]
        missing_units: u128,
    },
    /// More was served than the voucher allows.
    AboveVoucher {
        /// Pico-dollars above it.
        #[serde(with = "decimal")]
        excess_pico: u128,
    },
    /// The chain passed the lane over at this claim.
    Refused,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { expiry } => write!(f, "its voucher expired at {expiry} (unix seconds)"),
            Self::NoDeposit { missing_units } => write!(f, "its deposit is {missing_units} µ$ short"),
            Self::AboveVoucher { excess_pico } => write!(f, "{excess_pico} p$ were served above its voucher"),
            Self::Refused => write!(f, "the contract passed its row over"),
        }
    }
}

impl Held {
    /// Whether the row must not be sent at all, rather than pay less than it could.
    fn is_final(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::Refused)
    }
}

/// The rows worth redeeming now, and what is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redemption {
    /// Batches, each within the row limit and the gas cap. Empty when the thresholds are not met.
    pub batches: Vec<Vec<RedeemRow>>,
    /// Base units that the candidates are worth, whether batched now or waiting.
    pub waiting_units: u128,
    /// Channel and model of lanes of which something is stuck, and why.
    pub held: Vec<(B256, B256, Held)>,
}

/// When a batch is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Unix milliseconds.
    pub now_ms: u64,
    /// Send whatever is above dust, whatever its value or age.
    pub flush: bool,
}

/// Plans redeem batches: lanes with a signed claim above what the chain has paid, unless they are in a batch under
/// way or worth less than dust; sent when together they reach the value threshold, when the oldest reaches the age
/// threshold, or when a voucher is about to expire. Deterministic: rows come in order of channel and model.
pub fn redemption(
    lanes: &[LaneRecord],
    in_flight: &BTreeSet<(B256, B256)>,
    books: &ChannelBooks,
    settings: &Settlement,
    due: Due,
) -> Redemption {
    let mut plan = Redemption::default();
    let mut rows = Vec::new();
    let mut is_due = due.flush;
    let mut spent: BTreeMap<B256, u128> = BTreeMap::new();
    let mut ordered: Vec<&LaneRecord> = lanes.iter().collect();
    ordered.sort_by_key(|lane| (lane.channel, lane.model));
    for lane in ordered {
        let key = (lane.channel, lane.model);
        let Some(row) = lane.claim.as_ref().filter(|_| !in_flight.contains(&key)) else { continue };
        let funds = books.channels.get(&lane.channel).copied().unwrap_or_default();
        let spent = spent.entry(lane.channel).or_insert(funds.paid_units);
        let paid_units = books.lanes.get(&key).copied().unwrap_or(0);
        let left_units = funds.deposit_units.saturating_sub(*spent);
        let (value_units, held) = appraise(lane, row, paid_units, left_units, due.now_ms);
        plan.held.extend(held.iter().map(|held| (key.0, key.1, held.clone())));
        if held.iter().any(Held::is_final) || value_units < u128::from(settings.dust_units.max(1)) {
            continue;
        }
        *spent += value_units;
        plan.waiting_units += value_units;
        is_due |= due.now_ms.saturating_sub(lane.waiting_since_ms) >= settings.batch_age_ms
            || row.voucher.expiry <= due.now_ms / 1_000 + EXPIRY_RUSH_S;
        rows.push(row.clone());
    }
    is_due |= plan.waiting_units >= u128::from(settings.batch_value_units);
    if is_due {
        let size = (settings.max_batch_rows as usize).clamp(1, REDEEM_GAS.max_rows());
        plan.batches = rows.chunks(size).map(<[RedeemRow]>::to_vec).collect();
    }
    plan
}

/// What a lane's row would move now, in base units, and everything that stands in its way.
fn appraise(
    lane: &LaneRecord,
    row: &RedeemRow,
    paid_units: u128,
    left_units: u128,
    now_ms: u64,
) -> (u128, Vec<Held>) {
    let mut held = Vec::new();
    let excess_pico = lane.served_pico.saturating_sub(row.voucher.max_pico);
    if excess_pico > 0 {
        held.push(Held::AboveVoucher { excess_pico });
    }
    let owed_units = redeemable_units(row.claim.cumulative_pico, paid_units, u128::MAX);
    let value_units = owed_units.min(left_units);
    if value_units < owed_units {
        held.push(Held::NoDeposit { missing_units: owed_units - value_units });
    }
    if value_units > 0 && row.voucher.expiry <= now_ms / 1_000 + EXPIRY_MARGIN_S {
        held.push(Held::Expired { expiry: row.voucher.expiry });
    }
    if value_units > 0 && row.claim.cumulative_pico <= lane.refused_pico {
        held.push(Held::Refused);
    }
    (value_units, held)
}
