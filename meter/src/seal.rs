//! The seal of a window: what settlement posts, and all it trusts.

use std::collections::BTreeMap;

use alloy::primitives::{B256, Bytes, keccak256};
use dividend_registry::ModelId;
use serde::{Deserialize, Serialize};

use crate::ledger::{LaneClaim, SealedWindow};
use crate::sumtree::{self, Node, SumOverflow};
use crate::{CallRecord, Deployment, Payer, Totals, receipt};

/// A sealed window, as in `seals/<window>.json`. It follows from the journal alone, to the byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The journal.
    pub journal: B256,
    /// The window's number in it, from 0, without gaps.
    pub window: u64,
    /// Offset at which the window begins.
    pub first_offset: u64,
    /// Offset behind its SEAL record.
    pub last_offset: u64,
    /// When the window before was sealed or the journal begun, unix milliseconds.
    pub opened_at_ms: u64,
    /// When it was sealed, unix milliseconds.
    pub sealed_at_ms: u64,
    /// The contracts it is settled with.
    pub deployment: Deployment,
    /// Per model: what is posted. In the order of the ids.
    pub models: Vec<ModelSeal>,
    /// Per payer and model. Keys first, then channels, in the order of the ids.
    pub totals: Vec<PayerTotals>,
    /// Of each lane that the window touched: the highest voucher so far.
    pub vouchers: Vec<VoucherSeal>,
    /// Keccak-256 of this object as compact JSON, fields in this order, without `digest`.
    pub digest: B256,
}

/// What a window holds of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSeal {
    /// The model.
    pub model: ModelId,
    /// Merkle-sum root over the calls paid by API keys.
    pub prepaid_root: B256,
    /// Their charges, in pico-dollars.
    pub prepaid_sum_pico: u128,
    /// Merkle-sum root over the calls paid by channels.
    pub channel_root: B256,
    /// Their charges, in pico-dollars.
    pub channel_sum_pico: u128,
    /// Calls of both.
    pub calls: u64,
    /// Their prompt tokens.
    pub prompt_tokens: u64,
    /// Their output tokens.
    pub completion_tokens: u64,
}

/// What a payer used of a model in the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayerTotals {
    /// Key or channel.
    pub payer_kind: PayerKind,
    /// Hash id of the key, or id of the channel.
    pub payer: B256,
    /// The model.
    pub model: ModelId,
    /// Calls.
    pub calls: u64,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Output tokens.
    pub completion_tokens: u64,
    /// Charged, in pico-dollars.
    pub charge_pico: u128,
}

/// Whose id a payer's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayerKind {
    /// An API key.
    Key,
    /// A payment channel.
    Channel,
}

/// A lane's highest voucher and what was served on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoucherSeal {
    /// The channel.
    pub channel: B256,
    /// The lane, which is a model's id.
    pub lane: B256,
    /// What the payer promised, in total, in pico-dollars.
    pub max_cumulative_pico: u128,
    /// Until when, unix seconds.
    pub expiry: u64,
    /// The payer's signature over the voucher: 65 bytes, `r ‖ s ‖ v`.
    pub signature: Bytes,
    /// What was served on the lane since this journal began, in pico-dollars.
    pub cumulative_pico: u128,
}

impl Seal {
    /// The digest that follows from the other fields.
    pub fn compute_digest(&self) -> B256 {
        #[derive(Serialize)]
        struct Body<'a> {
            journal: &'a B256,
            window: u64,
            first_offset: u64,
            last_offset: u64,
            opened_at_ms: u64,
            sealed_at_ms: u64,
            deployment: &'a Deployment,
            models: &'a [ModelSeal],
            totals: &'a [PayerTotals],
            vouchers: &'a [VoucherSeal],
        }
        let Self { journal, models, totals, vouchers, deployment, .. } = self;
        let body = Body {
            journal,
            window: self.window,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            opened_at_ms: self.opened_at_ms,
            sealed_at_ms: self.sealed_at_ms,
            deployment,
            models,
            totals,
            vouchers,
        };
        keccak256(serde_json::to_vec(&body).expect("maps have string keys and nothing else fails"))
    }
}

/// The leaves of a window's trees, per model: `[prepaid, channel]`.
#[derive(Debug, Default)]
pub(crate) struct Leaves(BTreeMap<ModelId, [Vec<Node>; 2]>);

impl Leaves {
    /// Adds a call's leaf; answers its index in its tree.
    pub(crate) fn push(&mut self, record: &CallRecord, journal: B256) -> usize {
        let tree = &mut self.0.entry(record.model).or_default()[tree_of(&record.payer)];
        tree.push(receipt::leaf(record, journal));
        tree.len() - 1
    }

    /// The leaves of the tree that a call is in.
    pub(crate) fn of(&self, record: &CallRecord) -> &[Node] {
        self.0.get(&record.model).map_or(&[], |trees| &trees[tree_of(&record.payer)])
    }
}

fn tree_of(payer: &Payer) -> usize {
    match payer {
        Payer::Key(_) => 0,
        Payer::Channel(_) => 1,
    }
}

/// The seal of a window whose closed calls have these leaves.
pub(crate) fn seal(
    journal: B256,
    deployment: Deployment,
    sealed: &SealedWindow,
    leaves: &Leaves,
) -> Result<Seal, SumOverflow> {
    let span = sealed.span;
    let mut seal = Seal {
        journal,
        window: span.window,
        first_offset: span.first_offset,
        last_offset: span.last_offset,
        opened_at_ms: span.opened_at_ms,
        sealed_at_ms: span.sealed_at_ms,
        deployment,
        models: models(sealed, leaves)?,
        totals: sealed
            .rows
            .iter()
            .map(|((payer, model), totals)| payer_totals(payer, *model, totals))
            .collect(),
        vouchers: sealed.lanes.iter().map(voucher_seal).collect(),
        digest: B256::ZERO,
    };
    seal.digest = seal.compute_digest();
    Ok(seal)
}

fn models(sealed: &SealedWindow, leaves: &Leaves) -> Result<Vec<ModelSeal>, SumOverflow> {
    let mut sums = BTreeMap::<ModelId, Totals>::new();
    for ((_, model), totals) in &sealed.rows {
        let sum = sums.entry(*model).or_default();
        *sum = sum.checked_add(totals).ok_or(SumOverflow)?;
    }
    let of_model = |(model, sum): (ModelId, Totals)| {
        let empty = Default::default();
        let [prepaid, channel] = leaves.0.get(&model).unwrap_or(&empty);
        let (prepaid, channel) = (sumtree::root(prepaid)?, sumtree::root(channel)?);
        Ok(ModelSeal {
            model,
            prepaid_root: prepaid.hash,
            prepaid_sum_pico: prepaid.sum_pico,
            channel_root: channel.hash,
            channel_sum_pico: channel.sum_pico,
            calls: sum.calls,
            prompt_tokens: sum.prompt_tokens,
            completion_tokens: sum.completion_tokens,
        })
    };
    sums.into_iter().map(of_model).collect()
}

fn payer_totals(payer: &Payer, model: ModelId, totals: &Totals) -> PayerTotals {
    PayerTotals {
        payer_kind: match payer {
            Payer::Key(_) => PayerKind::Key,
            Payer::Channel(_) => PayerKind::Channel,
        },
        payer: payer.payer_key(),
        model,
        calls: totals.calls,
        prompt_tokens: totals.prompt_tokens,
        completion_tokens: totals.completion_tokens,
        charge_pico: totals.charge.0,
    }
}

fn voucher_seal(lane: &LaneClaim) -> VoucherSeal {
    let voucher = &lane.highest.voucher;
    VoucherSeal {
        channel: voucher.channel,
        lane: voucher.lane,
        max_cumulative_pico: voucher.maxCumulative,
        expiry: voucher.expiry,
        signature: Bytes::copy_from_slice(&lane.highest.signature),
        cumulative_pico: lane.cumulative_pico,
    }
}
