//! The books checked: what was metered, what the chain moved, and the invariants between them.
//!
//! I4: per lane, charge = royalty + operator's part, in base units, dust staying in the lane. I6: Σ claimed ≤ Σ credited
//! ≤ Σ revenue = royalty redeemed + royalty paid by `postSeal`. Pure: figures in, report out.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use dividend_registry::{ModelId, Snapshot};
use serde::{Deserialize, Serialize};

use crate::books::PrepaidLane;
use crate::earnings::{LaneTotals, slot_part};
use crate::lanes::{Lane, PICO_PER_UNIT, split, split_units};
use crate::{decimal, plan::ClaimKey};

/// The contracts' figures at one block, in base units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The block.
    pub block: u64,
    /// Royalty rate of each model, ppm.
    pub royalty_ppm: BTreeMap<B256, u32>,
    /// Prepaid lanes by model.
    pub prepaid: BTreeMap<B256, PrepaidLane>,
    /// Paid by (channel, model).
    pub lanes: BTreeMap<(B256, B256), u128>,
    /// Pool revenue by model.
    pub revenue: BTreeMap<B256, u128>,
    /// The pool's credited and claimed figure by slot.
    pub slots: BTreeMap<ClaimKey, (u128, u128)>,
    /// The pool's own sum of revenue.
    pub total_revenue: u128,
    /// The pool's own sum of claims.
    pub total_claimed: u128,
    /// Tokens that the pool holds.
    pub pool_balance: u128,
    /// The operator's part of redemptions that it has not withdrawn.
    pub operator_balance: u128,
}

/// What has to be read to reconcile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Models with a lane or revenue.
    pub models: BTreeSet<B256>,
    /// Channel lanes.
    pub lanes: BTreeSet<(B256, B256)>,
    /// Slots with their row and slot share.
    pub slots: BTreeMap<ClaimKey, (u32, u32)>,
}

/// One lane. Amounts in base units unless named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCheck {
    /// The payer's channel; none for the operator's own channel.
    pub channel: Option<B256>,
    /// The model.
    pub model: ModelId,
    /// Metered in all.
    #[serde(with = "decimal")]
    pub metered_pico: u128,
    /// Taken over by the chain: posted for prepaid, redeemed for a channel.
    #[serde(with = "decimal")]
    pub charge_units: u128,
    /// Its royalty.
    #[serde(with = "decimal")]
    pub royalty_units: u128,
    /// Its operator's part.
    #[serde(with = "decimal")]
    pub operator_units: u128,
    /// Metered and not on chain yet, dust included.
    #[serde(with = "decimal")]
    pub remainder_pico: u128,
}

/// One model in the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCheck {
    /// The model.
    pub model: ModelId,
    /// The pool's revenue.
    #[serde(with = "decimal")]
    pub revenue_units: u128,
    /// Royalty of redeemed channel lanes.
    #[serde(with = "decimal")]
    pub redeemed_units: u128,
    /// Royalty paid by `postSeal` and `settleOwed`.
    #[serde(with = "decimal")]
    pub posted_units: u128,
    /// Σ credited over its slots.
    #[serde(with = "decimal")]
    pub credited_units: u128,
    /// Σ claimed over its slots.
    #[serde(with = "decimal")]
    pub claimed_units: u128,
}

/// Sums over everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Metered.
    #[serde(with = "decimal")]
    pub metered_pico: u128,
    /// `C` over all lanes.
    #[serde(with = "decimal")]
    pub charge_units: u128,
    /// `R` over all lanes.
    #[serde(with = "decimal")]
    pub royalty_units: u128,
    /// `C − R` over all lanes.
    #[serde(with = "decimal")]
    pub operator_units: u128,
    /// Royalty posted and not paid for want of escrow.
    #[serde(with = "decimal")]
    pub owed_units: u128,
    /// Pool revenue.
    #[serde(with = "decimal")]
    pub revenue_units: u128,
    /// Credited to slots.
    #[serde(with = "decimal")]
    pub credited_units: u128,
    /// Claimed by slots.
    #[serde(with = "decimal")]
    pub claimed_units: u128,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its number in ARCHITECTURE.md.
    pub invariant: String,
    /// The figures that contradict it.
    pub what: String,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// The chain's block.
    pub block: u64,
    /// Every lane.
    pub lanes: Vec<LaneCheck>,
    /// Every model.
    pub models: Vec<ModelCheck>,
    /// Sums.
    pub sums: Sums,
    /// What does not hold; empty if all does.
    pub violations: Vec<Violation>,
}

impl Reconciliation {
    /// Whether every invariant holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether, besides, everything metered is on chain: every lane's remainder is below one base unit.
    pub fn is_complete(&self) -> bool {
        self.holds() && self.lanes.iter().all(|lane| lane.remainder_pico < PICO_PER_UNIT)
    }

    fn expect(&mut self, holds: bool, invariant: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { invariant: invariant.into(), what: what() });
        }
    }
}

/// Everything that the snapshot or the totals know of.
pub fn questions(snapshot: &Snapshot, totals: &LaneTotals) -> Questions {
    let mut questions = Questions::default();
    for (Lane { channel, model }, _) in totals.iter() {
        questions.models.insert(model);
        questions.lanes.extend(channel.map(|channel| (channel, model)));
    }
    for channel in snapshot.channels() {
        for model in channel.lanes.keys() {
            questions.models.insert(model.as_b256());
            questions.lanes.insert((channel.id, model.as_b256()));
        }
    }
    for model in snapshot.models() {
        questions.models.insert(model.id.as_b256());
        for row in &model.rows {
            let Some(node) = snapshot.model(row.node) else { continue };
            for (number, slot) in (0u8..).zip(&node.slots) {
                let key = ClaimKey { model: model.id.as_b256(), node: row.node.as_b256(), slot: number };
                questions.slots.insert(key, (row.share_ppm, slot.share_ppm));
            }
        }
    }
    questions
}

/// Checks the chain's figures against the metered totals and against each other.
pub fn reconcile(asked: &Questions, figures: &Figures, totals: &LaneTotals) -> Reconciliation {
    let mut report = Reconciliation { block: figures.block, ..Reconciliation::default() };
    let metered: BTreeMap<Lane, u128> = totals.iter().collect();
    for model in &asked.models {
        check_prepaid(&mut report, *model, figures, &metered);
    }
    for lane in &asked.lanes {
        check_channel(&mut report, *lane, figures, &metered);
    }
    for model in &asked.models {
        check_model(&mut report, *model, asked, figures);
    }
    check_sums(&mut report, figures);
    report
}

fn check_prepaid(
    report: &mut Reconciliation,
    model: B256,
    figures: &Figures,
    metered: &BTreeMap<Lane, u128>,
) {
    let chain = figures.prepaid.get(&model).copied().unwrap_or_default();
    let metered_pico = metered.get(&Lane { channel: None, model }).copied().unwrap_or(0);
    let ppm = figures.royalty_ppm.get(&model).copied().unwrap_or(0);
    let posted = split(chain.accrued_pico, ppm);
    let (paid, owed) = (chain.paid_units, chain.owed_units);
    report.expect(chain.accrued_pico <= metered_pico, "I4", || {
        format!("prepaid lane of {model}: posted {} pico, metered {metered_pico}", chain.accrued_pico)
    });
    report.expect(paid + owed == posted.royalty_units, "I4", || {
        format!("prepaid lane of {model}: paid {paid} + owed {owed} units, royalty {}", posted.royalty_units)
    });
    report.sums.owed_units += owed;
    let remainder_pico = metered_pico.saturating_sub(chain.accrued_pico);
    push_lane(report, None, model, metered_pico, (posted, remainder_pico));
}

fn check_channel(
    report: &mut Reconciliation,
    (channel, model): (B256, B256),
    figures: &Figures,
    metered: &BTreeMap<Lane, u128>,
) {
    let paid = figures.lanes.get(&(channel, model)).copied().unwrap_or(0);
    let metered_pico = metered.get(&Lane { channel: Some(channel), model }).copied().unwrap_or(0);
    let ppm = figures.royalty_ppm.get(&model).copied().unwrap_or(0);
    let paid_pico = paid.saturating_mul(PICO_PER_UNIT);
    report.expect(paid_pico <= metered_pico, "I4", || {
        format!("channel {channel}, model {model}: redeemed {paid} units, metered {metered_pico} pico")
    });
    let remainder_pico = metered_pico.saturating_sub(paid_pico);
    push_lane(report, Some(channel), model, metered_pico, (split_units(paid, ppm), remainder_pico));
}

fn push_lane(
    report: &mut Reconciliation,
    channel: Option<B256>,
    model: B256,
    metered_pico: u128,
    (split, remainder_pico): (crate::lanes::Split, u128),
) {
    if metered_pico == 0 && split.charge_units == 0 {
        return;
    }
    report.sums.metered_pico += metered_pico;
    report.sums.charge_units += split.charge_units;
    report.sums.royalty_units += split.royalty_units;
    report.sums.operator_units += split.operator_units;
    report.lanes.push(LaneCheck {
        channel,
        model: model.into(),
        metered_pico,
        charge_units: split.charge_units,
        royalty_units: split.royalty_units,
        operator_units: split.operator_units,
        remainder_pico,
    });
}

fn check_model(report: &mut Reconciliation, model: B256, asked: &Questions, figures: &Figures) {
    let ppm = figures.royalty_ppm.get(&model).copied().unwrap_or(0);
    let revenue_units = figures.revenue.get(&model).copied().unwrap_or(0);
    let of_model = figures.lanes.iter().filter(|((_, of), _)| *of == model);
    let redeemed_units = of_model.map(|(_, paid)| split_units(*paid, ppm).royalty_units).sum();
    let posted_units = figures.prepaid.get(&model).map_or(0, |lane| lane.paid_units);
    let mut check = ModelCheck {
        model: model.into(),
        revenue_units,
        redeemed_units,
        posted_units,
        credited_units: 0,
        claimed_units: 0,
    };
    for (key, (row_ppm, slot_ppm)) in asked.slots.iter().filter(|(key, _)| key.model == model) {
        let (credited, claimed) = figures.slots.get(key).copied().unwrap_or_default();
        let ours = slot_part(revenue_units, *row_ppm, *slot_ppm);
        report.expect(credited == ours, "I6", || {
            format!(
                "model {model}, node {}, slot {}: credited {credited}, by our shares {ours}",
                key.node, key.slot
            )
        });
        report.expect(claimed <= credited, "I6", || {
            format!("model {model}, node {}, slot {}: claimed {claimed} of {credited}", key.node, key.slot)
        });
        check.credited_units += credited;
        check.claimed_units += claimed;
    }
    report.expect(redeemed_units + posted_units == revenue_units, "I6", || {
        format!("model {model}: revenue {revenue_units}, redeemed {redeemed_units} + posted {posted_units}")
    });
    report.expect(check.credited_units <= revenue_units, "I6", || {
        format!("model {model}: credited {} of revenue {revenue_units}", check.credited_units)
    });
    report.sums.revenue_units += revenue_units;
    report.sums.credited_units += check.credited_units;
    report.sums.claimed_units += check.claimed_units;
    if revenue_units > 0 {
        report.models.push(check);
    }
}

fn check_sums(report: &mut Reconciliation, figures: &Figures) {
    let sums = report.sums.clone();
    let Figures { total_revenue, total_claimed, pool_balance, operator_balance, .. } = *figures;
    report.expect(sums.charge_units == sums.royalty_units + sums.operator_units, "I4", || {
        let Sums { charge_units, royalty_units, operator_units, .. } = &sums;
        format!("charged {charge_units}, royalty {royalty_units} + operator {operator_units}")
    });
    report.expect(sums.revenue_units == total_revenue, "I6", || {
        format!("revenue {} over models, {total_revenue} by the pool", sums.revenue_units)
    });
    report.expect(sums.royalty_units == total_revenue + sums.owed_units, "I6", || {
        format!(
            "royalty {} over lanes, revenue {total_revenue} + owed {}",
            sums.royalty_units, sums.owed_units
        )
    });
    report.expect(
        sums.claimed_units <= sums.credited_units && sums.claimed_units <= total_claimed,
        "I6",
        || format!("claimed {} by slots, {total_claimed} by the pool", sums.claimed_units),
    );
    report.expect(
        total_claimed <= total_revenue && pool_balance >= total_revenue - total_claimed,
        "I6",
        || format!("the pool holds {pool_balance}, revenue {total_revenue} less claimed {total_claimed}"),
    );
    let redeemed_operator: u128 =
        report.lanes.iter().filter(|lane| lane.channel.is_some()).map(|lane| lane.operator_units).sum();
    report.expect(operator_balance <= redeemed_operator, "I4", || {
        format!("the operator's balance is {operator_balance}, its part of redemptions {redeemed_operator}")
    });
}
