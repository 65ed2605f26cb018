//! A small chain: one track with two champions, and another model that nothing here serves.

use std::collections::BTreeMap;

use dividend_chain::{Address, B256, Key};
use dividend_meter::Deployment;
use dividend_registry::{
    BlockRef, ChannelView, Kind, ModelId, ModelView, PriceFloor, Row, Slot, TrackId, TrackView,
};

pub const TRACK: &str = "demo";
pub const TOKEN: &str = "admin-token-of-the-tests";
pub const OLD_MODEL: ModelId = ModelId([1; 32]);
pub const MODEL: ModelId = ModelId([2; 32]);
pub const OTHER_MODEL: ModelId = ModelId([3; 32]);
pub const DEPLOYMENT: Deployment = Deployment {
    chain_id: 31_337,
    usage_ledger: Address::repeat_byte(0x11),
    payment_channels: Address::repeat_byte(0x22),
};

/// A key that is the same in every test.
pub fn key(byte: u8) -> Key {
    Key::from_bytes(B256::repeat_byte(byte)).expect("a valid scalar")
}

pub fn operator_key() -> Key {
    key(7)
}

pub fn block() -> BlockRef {
    BlockRef { number: 42, hash: B256::repeat_byte(9), timestamp_s: 1_700_000_000 }
}

pub fn models() -> Vec<ModelView> {
    vec![model(OLD_MODEL, 0), model(MODEL, 20), model(OTHER_MODEL, 0)]
}

fn model(id: ModelId, min_input: u64) -> ModelView {
    ModelView {
        id,
        owner: Address::repeat_byte(0x33),
        kind: Kind::Base,
        parents: Vec::new(),
        inherit_ppm: 0,
        slots: vec![Slot { share_ppm: 1_000_000, payee: Address::repeat_byte(0x44) }],
        royalty_ppm: 200_000,
        min_price: PriceFloor { input_pico_per_token: min_input, output_pico_per_token: 0 },
        floor_ppm: 0,
        artifact_digest: id.as_b256(),
        uri: String::new(),
        track: Some(TrackId::of_name(TRACK)),
        rows: vec![Row { node: id, share_ppm: 1_000_000, floor_ppm: 0 }],
        registered_at: 1,
    }
}

pub fn tracks() -> Vec<TrackView> {
    vec![TrackView {
        id: TrackId::of_name(TRACK),
        name: TRACK.to_owned(),
        owner: Address::repeat_byte(0x33),
        champions: vec![OLD_MODEL, MODEL],
        champion_inherit_ppm: 500_000,
        verifier_ppm: 0,
        verifiers: Address::ZERO,
        locked: false,
    }]
}

/// A channel of 10 $ towards the tests' operator, whose vouchers are signed by `signer`.
pub fn channel(signer: &Key, deposit_units: u128) -> ChannelView {
    ChannelView {
        id: B256::repeat_byte(0x55),
        payer: Address::repeat_byte(0x66),
        signer: signer.address(),
        operator: operator_key().address(),
        withdraw_delay_s: 100,
        deposit_units,
        redeemed_units: 0,
        lanes: BTreeMap::new(),
        withdrawal: None,
    }
}
