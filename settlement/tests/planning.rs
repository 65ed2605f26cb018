//! Plans are deterministic, bounded, and never promise more than a deposit holds.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{B256, Bytes};
use dividend_config::Settlement;
use dividend_settlement::plan::{
    self, CLAIM_GAS, Call, ChannelBooks, ChannelFunds, Due, Held, POST_SEAL_GAS, REDEEM_GAS, TX_GAS_CAP,
};
use dividend_settlement::records::{
    LaneRecord, RedeemRow, SealRow, StoredClaim, StoredVoucher, WindowKey, WindowRecord,
};
use dividend_settlement::transitions::{Progress, State};
use proptest::prelude::*;

const NOW_MS: u64 = 1_800_000_000_000;
const FLUSH: Due = Due { now_ms: NOW_MS, flush: true };
const WAITING: Due = Due { now_ms: NOW_MS, flush: false };

fn lane(channel: u8, model: u8, cumulative_pico: u128, paid_units: u128) -> LaneRecord {
    let (channel, model) = (B256::repeat_byte(channel), B256::repeat_byte(model));
    let voucher = StoredVoucher {
        max_pico: cumulative_pico,
        expiry: 4_000_000_000,
        signature: Bytes::from(vec![1; 65]),
    };
    let claim = StoredClaim { cumulative_pico, seal_digest: B256::ZERO, signature: Bytes::from(vec![2; 65]) };
    LaneRecord {
        channel,
        model,
        served_pico: cumulative_pico,
        voucher: Some(voucher.clone()),
        claim: Some(RedeemRow { channel, model, voucher, claim }),
        paid_units,
        refused_pico: 0,
        waiting_since_ms: NOW_MS,
    }
}

fn books(lanes: &[LaneRecord], deposit_units: u128) -> ChannelBooks {
    let mut books = ChannelBooks::default();
    for lane in lanes {
        books.channels.entry(lane.channel).or_insert(ChannelFunds { deposit_units, paid_units: 0 });
        books.lanes.insert((lane.channel, lane.model), lane.paid_units);
    }
    books
}

fn settings() -> Settlement {
    Settlement { batch_value_units: 1_000, batch_age_ms: 60_000, dust_units: 10, ..Settlement::default() }
}

fn redeem(lanes: &[LaneRecord], deposit: u128, due: Due) -> plan::Redemption {
    plan::redemption(lanes, &BTreeSet::new(), &books(lanes, deposit), &settings(), due)
}

#[test]
fn value_age_expiry_or_a_flush_make_a_batch_due_and_dust_never_goes() {
    let rows = |plan: plan::Redemption| plan.batches.iter().map(Vec::len).sum::<usize>();
    let small = [lane(1, 1, 500_000_000, 0)];
    assert_eq!(rows(redeem(&small, 10_000, WAITING)), 0);
    assert_eq!(redeem(&small, 10_000, WAITING).waiting_units, 500);
    assert_eq!(rows(redeem(&small, 10_000, FLUSH)), 1);
    assert_eq!(rows(redeem(&small, 10_000, Due { now_ms: NOW_MS + 60_000, flush: false })), 1);
    let two = [lane(1, 1, 500_000_000, 0), lane(2, 1, 500_000_000, 0)];
    assert_eq!(rows(redeem(&two, 10_000, WAITING)), 2);
    let mut rushed = small;
    if let Some(row) = &mut rushed[0].claim {
        row.voucher.expiry = NOW_MS / 1_000 + 300;
    }
    assert_eq!(rows(redeem(&rushed, 10_000, WAITING)), 1);
    let dust = [lane(1, 1, 9_999_999, 0)];
    assert_eq!(rows(redeem(&dust, 10_000, FLUSH)), 0);
    assert_eq!(redeem(&dust, 10_000, FLUSH).waiting_units, 0);
}

#[test]
fn what_cannot_be_redeemed_is_held_with_its_reason() {
    let mut expired = lane(1, 1, 50_000_000, 0);
    if let Some(row) = &mut expired.claim {
        row.voucher.expiry = NOW_MS / 1_000;
    }
    let mut refused = lane(2, 1, 50_000_000, 0);
    refused.refused_pico = 50_000_000;
    let mut above = lane(3, 1, 50_000_000, 0);
    above.served_pico += 7;
    let lanes = [expired, refused, above];
    let plan = redeem(&lanes, 30, FLUSH);
    let held: Vec<_> = plan.held.iter().map(|(channel, _, why)| (channel[0], why.clone())).collect();
    assert_eq!(
        held,
        [
            (1, Held::NoDeposit { missing_units: 20 }),
            (1, Held::Expired { expiry: NOW_MS / 1_000 }),
            (2, Held::NoDeposit { missing_units: 20 }),
            (2, Held::Refused),
            (3, Held::AboveVoucher { excess_pico: 7 }),
            (3, Held::NoDeposit { missing_units: 20 }),
        ]
    );
    assert_eq!(plan.batches.len(), 1);
    assert_eq!(plan.waiting_units, 30);
}

#[test]
fn a_lane_under_way_is_left_alone() {
    let lanes = [lane(1, 1, 50_000_000, 0), lane(1, 2, 50_000_000, 0)];
    let under_way = BTreeSet::from([(lanes[0].channel, lanes[0].model)]);
    let plan = plan::redemption(&lanes, &under_way, &books(&lanes, 1_000), &settings(), FLUSH);
    assert_eq!(plan.batches.concat(), vec![lanes[1].claim.clone().unwrap()]);
}

#[test]
fn the_gas_cap_holds_for_the_largest_chunks() {
    for gas in [POST_SEAL_GAS, REDEEM_GAS, CLAIM_GAS] {
        assert!(gas.limit(gas.max_rows()) <= TX_GAS_CAP);
        assert!(gas.limit(gas.max_rows() + 1) > TX_GAS_CAP);
    }
}

fn window(models: usize, attempt: u32) -> WindowRecord {
    let row = |index: usize| SealRow {
        model: B256::left_padding_from(&index.to_be_bytes()),
        prepaid_root: B256::ZERO,
        prepaid_pico: 1,
        channel_root: B256::ZERO,
        channel_pico: 0,
    };
    WindowRecord {
        key: WindowKey { journal: B256::repeat_byte(9), window: 4 },
        seal_digest: B256::ZERO,
        progress: Progress { attempt, ..Progress::begin(State::Signed, 0) },
        rows: (0..models).map(row).collect(),
        lanes: Vec::new(),
        claims: Vec::new(),
        gas_used: 0,
    }
}

proptest! {
    #[test]
    fn a_window_is_cut_into_chunks_that_hold_every_row_once(models in 0usize..400, attempt in 0u32..3) {
        let window = window(models, attempt);
        let intents = plan::post_seal(&window);
        prop_assert_eq!(&intents, &plan::post_seal(&window));
        let mut rows = Vec::new();
        for (index, intent) in intents.iter().enumerate() {
            let Call::PostSeal { rows: chunk, last, .. } = &intent.call else { panic!("not a postSeal") };
            prop_assert!(intent.call.gas_limit() <= TX_GAS_CAP);
            prop_assert_eq!(*last, index + 1 == intents.len());
            rows.extend(chunk.iter().cloned());
        }
        prop_assert_eq!(rows, window.rows);
        let ids: BTreeSet<_> = intents.iter().map(|intent| &intent.id).collect();
        prop_assert_eq!(ids.len(), intents.len());
    }

    #[test]
    fn no_channel_is_asked_for_more_than_its_deposit(
        claims in prop::collection::vec((0u8..4, 0u8..4, 0u128..90_000_000, 0u128..60), 0..16),
        deposit in 0u128..120,
    ) {
        let mut lanes: BTreeMap<(u8, u8), LaneRecord> = BTreeMap::new();
        for (channel, model, pico, paid) in claims {
            lanes.insert((channel, model), lane(channel, model, pico, paid));
        }
        let lanes: Vec<_> = lanes.into_values().collect();
        let plan = redeem(&lanes, deposit, FLUSH);
        let mut reversed = lanes.clone();
        reversed.reverse();
        prop_assert_eq!(&plan, &redeem(&reversed, deposit, FLUSH));
        let mut asked: BTreeMap<B256, u128> = BTreeMap::new();
        for row in plan.batches.concat() {
            let lane = lanes.iter().find(|lane| (lane.channel, lane.model) == (row.channel, row.model)).unwrap();
            let owed = row.claim.cumulative_pico / 1_000_000 - lane.paid_units;
            prop_assert!(owed >= 10);
            *asked.entry(row.channel).or_default() += 10;
        }
        prop_assert!(asked.values().all(|least| *least <= deposit));
        prop_assert!(plan.waiting_units <= deposit * 4);
    }
}
