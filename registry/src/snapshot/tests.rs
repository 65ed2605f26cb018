//! Snapshots without a chain.

use alloy::primitives::keccak256;

use super::*;

pub(crate) fn id(n: u8) -> ModelId {
    ModelId([n; 32])
}

/// A base model without parents.
pub(crate) fn model(n: u8) -> ModelView {
    ModelView {
        id: id(n),
        owner: Address::repeat_byte(n),
        kind: Kind::Base,
        parents: Vec::new(),
        inherit_ppm: 0,
        slots: vec![Slot { share_ppm: 1_000_000, payee: Address::repeat_byte(n) }],
        royalty_ppm: 200_000,
        min_price: PriceFloor::default(),
        floor_ppm: 0,
        artifact_digest: keccak256([n]),
        uri: String::new(),
        track: None,
        rows: vec![Row { node: id(n), share_ppm: 1_000_000, floor_ppm: 0 }],
        registered_at: 1,
    }
}

fn channel(deposit_units: u128) -> ChannelView {
    ChannelView {
        id: B256::repeat_byte(1),
        payer: Address::repeat_byte(1),
        signer: Address::repeat_byte(2),
        operator: Address::repeat_byte(3),
        withdraw_delay_s: 60,
        deposit_units,
        redeemed_units: 100,
        lanes: BTreeMap::new(),
        withdrawal: Some(Withdrawal { amount_units: 30, matures_at_s: 5, lapses_at_s: 9 }),
    }
}

fn snapshot(models: Vec<ModelView>, channels: Vec<ChannelView>) -> Snapshot {
    let escrow = EscrowView::default();
    Snapshot::fixture(BlockRef::default(), Instant::now(), models, Vec::new(), channels, escrow)
}

#[test]
fn the_age_is_counted_from_the_last_look_and_endless_before_the_first() {
    let snapshot = snapshot(Vec::new(), Vec::new());
    let later = snapshot.observed_at() + Duration::from_secs(5);
    assert_eq!(snapshot.age(later), Duration::from_secs(5));
    assert_eq!(Snapshot::unseen().age(later), Duration::MAX);
    let seen = Snapshot::unseen().seen_at(BlockRef::default(), 0, snapshot.observed_at());
    assert_eq!(seen.age(later), Duration::from_secs(5));
}

#[test]
fn money_that_is_asked_back_is_not_free() {
    assert_eq!(channel(1_000).free_units(), 870);
    assert_eq!(channel(110).free_units(), 0);
    assert_eq!(channel(0).free_units(), 0);
}

#[test]
fn deposits_are_the_lower_of_final_and_newest() {
    let of = |deposit| State::of(Vec::new(), Vec::new(), vec![channel(deposit)], EscrowView::default());
    let deposit = |head: &State, last_final: &State| {
        head.prudent_channels(last_final)[&B256::repeat_byte(1)].deposit_units
    };
    assert_eq!(deposit(&of(500), &of(200)), 200);
    assert_eq!(deposit(&of(200), &of(500)), 200);
    assert_eq!(deposit(&of(500), &State::default()), 0);
}

#[test]
fn the_state_hash_tells_states_apart_but_not_the_order_of_insertion() {
    let hash = |models: Vec<ModelView>| snapshot(models, Vec::new()).state_hash();
    assert_eq!(hash(vec![model(1), model(2)]), hash(vec![model(2), model(1)]));
    assert_ne!(hash(vec![model(1)]), hash(vec![model(1), model(2)]));
    assert_ne!(hash(vec![model(1)]), hash(vec![ModelView { royalty_ppm: 1, ..model(1) }]));
    let with = |deposit| snapshot(Vec::new(), vec![channel(deposit)]).state_hash();
    assert_ne!(with(1), with(2));
}

#[test]
fn ids_are_read_as_they_are_shown_and_nothing_else_is() {
    let shown = id(0xab).to_string();
    assert_eq!(shown, format!("0x{}", "ab".repeat(32)));
    assert_eq!(shown.parse::<ModelId>().unwrap(), id(0xab));
    assert_eq!(serde_json::to_string(&id(0xab)).unwrap(), format!("\"{shown}\""));
    let long = "f".repeat(1_000_000);
    for bad in [&shown[2..], "0x", "0xzz", &shown[..65], "\u{1b}[31m", &long] {
        let error = bad.parse::<ModelId>().unwrap_err().to_string();
        assert!(error.len() < 1_000 && !error.contains('\u{1b}'), "{error}");
    }
}
