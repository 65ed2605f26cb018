//! Earnings follow the totals, floor as the pool floors, and keep their order; the books find what contradicts them.

#![expect(clippy::unwrap_used, reason = "a test cannot go on without its surroundings")]

use std::collections::BTreeMap;
use std::time::Instant;

use alloy::primitives::{Address, B256};
use dividend_meter::Payer;
use dividend_registry::{
    BlockRef, EscrowView, Kind, ModelId, ModelView, ParentView, PriceFloor, Row, Slot, Snapshot,
};
use dividend_settlement::books::PrepaidLane;
use dividend_settlement::contributors::{Whom, claim_many, claimable};
use dividend_settlement::earnings::slot_part;
use dividend_settlement::lanes::split;
use dividend_settlement::plan::ClaimKey;
use dividend_settlement::reconcile::{Figures, Questions, questions, reconcile};
use dividend_settlement::{Earnings, LaneTotals, earnings};
use proptest::prelude::*;

const BASE: ModelId = ModelId([1; 32]);
const CHILD: ModelId = ModelId([2; 32]);
const ALICE: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb0);
const CAROL: Address = Address::repeat_byte(0xca);

fn model(id: ModelId, royalty_ppm: u32, slots: &[(Address, u32)], rows: &[(ModelId, u32)]) -> ModelView {
    let parents = rows[1..].iter().map(|(model, _)| ParentView { model: *model, weight_ppm: 1_000_000 });
    ModelView {
        id,
        owner: ALICE,
        kind: if rows.len() == 1 { Kind::Base } else { Kind::Fork },
        parents: parents.collect(),
        inherit_ppm: 0,
        slots: slots.iter().map(|(payee, share_ppm)| Slot { share_ppm: *share_ppm, payee: *payee }).collect(),
        royalty_ppm,
        min_price: PriceFloor::default(),
        floor_ppm: 0,
        artifact_digest: B256::ZERO,
        uri: String::new(),
        track: None,
        rows: rows
            .iter()
            .map(|(node, share_ppm)| Row { node: *node, share_ppm: *share_ppm, floor_ppm: 0 })
            .collect(),
        registered_at: 1,
    }
}

/// Alice and Bob made the base, Carol and Alice the child, which gives the base 40 %.
fn snapshot(credits: &[(ModelId, u128)], claims: &[(ModelId, ModelId, u8, u128)]) -> Snapshot {
    let models = vec![
        model(BASE, 120_000, &[(ALICE, 700_000), (BOB, 300_000)], &[(BASE, 1_000_000)]),
        model(CHILD, 333_333, &[(CAROL, 999_999), (ALICE, 1)], &[(CHILD, 600_000), (BASE, 400_000)]),
    ];
    let block = BlockRef { number: 9, hash: B256::repeat_byte(9), timestamp_s: 0 };
    let snapshot = Snapshot::fixture(block, Instant::now(), models, vec![], vec![], EscrowView::default());
    snapshot
        .with_credits(credits.iter().copied(), claims.iter().map(|(m, n, s, units)| ((*m, *n, *s), *units)))
}

fn totals(charges: &[(Payer, ModelId, u128)]) -> LaneTotals {
    let mut totals = LaneTotals::default();
    for (payer, model, pico) in charges {
        totals.add(payer, *model, *pico).unwrap();
    }
    totals
}

fn key(byte: u8) -> Payer {
    Payer::Key([byte; 32])
}

fn channel(byte: u8) -> Payer {
    Payer::Channel(B256::repeat_byte(byte))
}

#[test]
fn all_keys_share_one_lane_and_each_channel_has_its_own() {
    // 0.6 µ$ twice: together 1 µ$ by keys, nothing by two channels.
    let snapshot = snapshot(&[], &[]);
    let keys = totals(&[(key(1), CHILD, 600_000), (key(2), CHILD, 600_000)]);
    assert_eq!(keys.iter().count(), 1);
    assert_eq!(split(1_200_000, 1_000_000).royalty_units, 1);
    let channels = totals(&[(channel(1), CHILD, 600_000), (channel(2), CHILD, 600_000)]);
    assert_eq!(channels.iter().count(), 2);
    assert_eq!(channels.royalty_units(&snapshot)[&CHILD], 0);
}

#[test]
fn an_address_earns_from_every_model_that_descends_from_its_work() {
    let metered = totals(&[(key(1), BASE, 10_000_000_000), (channel(1), CHILD, 3_000_000_000)]);
    let chain = snapshot(&[(BASE, 700), (CHILD, 999)], &[(BASE, BASE, 0, 480)]);
    let alice = earnings(ALICE, &chain, &metered);
    assert_eq!((alice.address, alice.block), (ALICE, 9));
    // Base: royalty 1200, 70 %. Child: royalty floor(3000·0.333333) = 999, 40 %·70 % and 60 %·10⁻⁶.
    let [base, child] = alice.models.as_slice() else { panic!("two models: {alice:?}") };
    assert_eq!((base.amounts.accrued_units, base.amounts.credited_units), (840, 490));
    assert_eq!((base.amounts.claimed_units, base.amounts.claimable_units), (480, 10));
    assert_eq!(child.slots.len(), 2);
    assert_eq!((child.amounts.accrued_units, child.amounts.credited_units), (279, 279));
    assert_eq!(alice.amounts.accrued_units, 840 + 279);
    assert_eq!(earnings(Address::ZERO, &chain, &metered).models.len(), 0);
}

#[test]
fn json_carries_decimal_strings_and_reads_back() {
    let metered = totals(&[(key(1), BASE, u128::from(u64::MAX) * 1_000_000_000)]);
    let bob = earnings(BOB, &snapshot(&[], &[]), &metered);
    let json = serde_json::to_string(&bob).unwrap();
    assert!(json.contains(&format!("\"accrued_units\":\"{}\"", bob.amounts.accrued_units)), "{json}");
    assert!(json.contains(&format!("\"address\":\"{}\"", BOB.to_checksum(None))), "{json}");
    assert_eq!(serde_json::from_str::<Earnings>(&json).unwrap(), bob);
}

#[test]
fn what_is_claimable_is_found_by_payee_model_and_node() {
    let chain = snapshot(&[(BASE, 1_000), (CHILD, 1_000)], &[(BASE, BASE, 1, 300)]);
    let of = |whom: &Whom| -> Vec<(u128, Address)> {
        claimable(whom, &chain).iter().map(|slot| (slot.amount_units, slot.payee)).collect()
    };
    assert_eq!(of(&Whom::Payee(ALICE)), [(700, ALICE), (280, ALICE)]);
    assert_eq!(of(&Whom::Payee(BOB)), [(120, BOB)]);
    assert_eq!(of(&Whom::Model(CHILD)), [(280, ALICE), (120, BOB), (599, CAROL)]);
    assert_eq!(of(&Whom::Node(CHILD, CHILD)), [(599, CAROL)]);
    let all = claimable(&Whom::Model(CHILD), &chain);
    assert_eq!(claim_many(&all, 7), claim_many(&all, 7));
    assert_ne!(claim_many(&all, 7)[0].id, claim_many(&all[1..], 7)[0].id);
}

proptest! {
    /// Whatever part of the metered royalty is credited and of that claimed, the order holds and nothing is made up.
    #[test]
    fn accrued_is_at_least_credited_is_at_least_claimed(
        prepaid in 0u128..10_u128.pow(20),
        by_channel in 0u128..10_u128.pow(20),
        credited_ppm in 0u128..=1_000_000,
    ) {
        let metered = totals(&[(key(1), CHILD, prepaid), (channel(1), CHILD, by_channel)]);
        let royalty = metered.royalty_units(&snapshot(&[], &[]))[&CHILD];
        let revenue = royalty * credited_ppm / 1_000_000;
        let chain = snapshot(&[(CHILD, revenue)], &[(CHILD, CHILD, 0, slot_part(revenue / 2, 600_000, 999_999))]);
        let mut sums = (0, 0);
        for address in [ALICE, BOB, CAROL] {
            let amounts = earnings(address, &chain, &metered).amounts;
            prop_assert!(amounts.accrued_units >= amounts.credited_units);
            prop_assert!(amounts.credited_units >= amounts.claimed_units);
            prop_assert_eq!(amounts.claimable_units, amounts.credited_units - amounts.claimed_units);
            sums.0 += amounts.accrued_units;
            sums.1 += amounts.credited_units;
        }
        prop_assert!(sums.0 <= royalty && royalty - sums.0.min(royalty) < 4);
        prop_assert!(sums.1 <= revenue);
    }
}

/// Figures in which everything metered is settled and nothing claimed.
fn honest(asked: &Questions, metered: &LaneTotals) -> Figures {
    let mut figures = Figures { block: 5, ..Figures::default() };
    figures.royalty_ppm = BTreeMap::from([(BASE.as_b256(), 120_000), (CHILD.as_b256(), 333_333)]);
    let mut revenue: BTreeMap<B256, u128> = BTreeMap::new();
    for (lane, pico) in metered.iter() {
        let parts = split(pico, figures.royalty_ppm[&lane.model]);
        *revenue.entry(lane.model).or_default() += parts.royalty_units;
        match lane.channel {
            Some(channel) => {
                figures.lanes.insert((channel, lane.model), parts.charge_units);
                figures.operator_balance += parts.operator_units;
            }
            None => {
                let prepaid =
                    PrepaidLane { accrued_pico: pico, paid_units: parts.royalty_units, owed_units: 0 };
                figures.prepaid.insert(lane.model, prepaid);
            }
        }
    }
    figures.total_revenue = revenue.values().sum();
    figures.pool_balance = figures.total_revenue;
    for (key, (row_ppm, slot_ppm)) in &asked.slots {
        let units = revenue.get(&key.model).copied().unwrap_or(0);
        figures.slots.insert(*key, (slot_part(units, *row_ppm, *slot_ppm), 0));
    }
    figures.revenue = revenue;
    figures
}

#[test]
fn honest_books_hold_and_every_lie_is_found() {
    let metered = totals(&[
        (key(1), BASE, 9_999_999_999),
        (key(1), CHILD, 123_456_789_012),
        (channel(1), CHILD, 77_000_001),
        (channel(2), BASE, 5),
    ]);
    let asked = questions(&snapshot(&[], &[]), &metered);
    let figures = honest(&asked, &metered);
    let report = reconcile(&asked, &figures, &metered);
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(report.sums.metered_pico, 9_999_999_999 + 123_456_789_012 + 77_000_001 + 5);
    assert_eq!(report.sums.charge_units, report.sums.royalty_units + report.sums.operator_units);
    assert_eq!(report.lanes.len(), 4);

    let broken = |lie: &dyn Fn(&mut Figures)| {
        let mut figures = figures.clone();
        lie(&mut figures);
        let report = reconcile(&asked, &figures, &metered);
        report.violations.iter().map(|violation| violation.invariant.clone()).collect::<Vec<_>>()
    };
    let child = CHILD.as_b256();
    let lane = (B256::repeat_byte(1), child);
    let slot = ClaimKey { model: child, node: child, slot: 0 };
    assert!(broken(&|f| *f.lanes.entry(lane).or_default() += 1).contains(&"I4".to_owned()));
    assert!(broken(&|f| f.prepaid.entry(child).or_default().paid_units -= 1).contains(&"I4".to_owned()));
    assert!(broken(&|f| *f.revenue.entry(child).or_default() += 1).contains(&"I6".to_owned()));
    assert!(broken(&|f| f.total_revenue += 1).contains(&"I6".to_owned()));
    assert!(broken(&|f| f.pool_balance -= 1).contains(&"I6".to_owned()));
    assert!(broken(&|f| f.operator_balance += 1).contains(&"I4".to_owned()));
    assert!(broken(&|f| f.slots.entry(slot).or_default().1 = u128::MAX / 2).contains(&"I6".to_owned()));
    assert!(broken(&|f| f.slots.entry(slot).or_default().0 += 1).contains(&"I6".to_owned()));
}

#[test]
fn what_is_not_settled_yet_is_no_violation_but_not_complete() {
    let metered = totals(&[(key(1), BASE, 10_000_000), (channel(1), CHILD, 5_000_000)]);
    let asked = questions(&snapshot(&[], &[]), &metered);
    let nothing = honest(&asked, &LaneTotals::default());
    let report = reconcile(&asked, &nothing, &metered);
    assert!(report.holds() && !report.is_complete(), "{report:#?}");
    let remainders: Vec<_> = report.lanes.iter().map(|lane| lane.remainder_pico).collect();
    assert_eq!(remainders, [10_000_000, 5_000_000]);
}
