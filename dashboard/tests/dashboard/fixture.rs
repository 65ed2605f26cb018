//! A small world: a base model of two people, two forks of it, and a merge of both that serves now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dividend_chain::{Address, B256};
use dividend_config::Prices;
use dividend_dashboard::{Moment, WindowRow, WindowState};
use dividend_meter::{Charge, Payer, Totals};
use dividend_registry::{
    BlockRef, EscrowView, Kind, ModelId, ModelView, ParentView, PriceFloor, Row, Slot, Snapshot, TrackId,
    TrackView,
};
use dividend_settlement::LaneTotals;

pub const BASE: ModelId = ModelId([0xb0; 32]);
pub const LEFT: ModelId = ModelId([0x1f; 32]);
pub const RIGHT: ModelId = ModelId([0x2f; 32]);
pub const MERGE: ModelId = ModelId([0x3e; 32]);
/// Its owner wrote markup and treacherous characters wherever text is free.
pub const HOSTILE: ModelId = ModelId([0x66; 32]);

pub const ALICE: Address = Address::repeat_byte(0xa1);
pub const BOB: Address = Address::repeat_byte(0xb2);
pub const CAROL: Address = Address::repeat_byte(0xc3);
pub const DAVE: Address = Address::repeat_byte(0xd4);
pub const ERIN: Address = Address::repeat_byte(0xe5);

pub const MARKUP: &str = "<img src=x onerror=alert(1)>\u{202e}\"'&\u{0}";

/// The world when callers were charged `merge_pico` for the merge.
pub fn moment(merge_pico: u128) -> Moment {
    let charges = [(MERGE, merge_pico), (LEFT, 2_400_000_500_000), (BASE, 800_000_000_000)];
    let mut lanes = LaneTotals::default();
    let mut usage = BTreeMap::new();
    for (model, pico) in charges {
        // A third is paid by key, the rest by channel: two lanes.
        lanes.add(&Payer::Key([1; 32]), model, pico / 3).unwrap();
        lanes.add(&Payer::Channel(B256::repeat_byte(9)), model, pico - pico / 3).unwrap();
        let calls = u64::try_from(pico / 4_000_000_000).unwrap();
        let totals =
            Totals { calls, prompt_tokens: calls * 412, completion_tokens: calls * 96, charge: Charge(pico) };
        usage.insert(model, totals);
    }
    Moment {
        at_ms: 1_795_344_080_000,
        snapshot: Arc::new(snapshot()),
        lanes,
        usage,
        windows: windows(merge_pico),
        prices: Prices::default(),
        problems: Vec::new(),
    }
}

fn snapshot() -> Snapshot {
    let slot = |payee, share_ppm| Slot { share_ppm, payee };
    let parent = |model, weight_ppm| ParentView { model, weight_ppm };
    let row = |node, share_ppm| Row { node, share_ppm, floor_ppm: 0 };
    let models = vec![
        ModelView {
            rows: vec![row(BASE, 1_000_000)],
            ..model(BASE, &[slot(ALICE, 700_000), slot(BOB, 300_000)])
        },
        ModelView {
            kind: Kind::Fork,
            parents: vec![parent(BASE, 1_000_000)],
            inherit_ppm: 400_000,
            rows: vec![row(LEFT, 600_000), row(BASE, 400_000)],
            ..model(LEFT, &[slot(CAROL, 1_000_000)])
        },
        ModelView {
            kind: Kind::Patch,
            parents: vec![parent(BASE, 1_000_000)],
            inherit_ppm: 500_000,
            rows: vec![row(RIGHT, 500_000), row(BASE, 500_000)],
            ..model(RIGHT, &[slot(DAVE, 1_000_000)])
        },
        ModelView {
            kind: Kind::Fork,
            parents: vec![parent(LEFT, 600_000), parent(RIGHT, 400_000)],
            inherit_ppm: 600_000,
            rows: vec![row(MERGE, 400_000), row(LEFT, 216_000), row(BASE, 264_000), row(RIGHT, 120_000)],
            ..model(MERGE, &[slot(ERIN, 850_000), slot(ALICE, 150_000)])
        },
        ModelView {
            uri: MARKUP.to_owned(),
            rows: vec![row(HOSTILE, 950_000), row(ModelId([0x99; 32]), 50_000)],
            ..model(HOSTILE, &[slot(BOB, 1_000_000)])
        },
    ];
    let tracks = vec![track("smollm2-triage", vec![BASE, LEFT, MERGE]), track(MARKUP, vec![HOSTILE])];
    let block = BlockRef { number: 48_211, hash: B256::repeat_byte(0x77), timestamp_s: 1_795_344_079 };
    let credits = [(MERGE, 900_000), (LEFT, 480_000), (BASE, 160_000)];
    let claimed = [((MERGE, BASE, 0), 100_000), ((BASE, BASE, 0), 112_000), ((LEFT, LEFT, 0), 200_000)];
    Snapshot::fixture(block, Instant::now(), models, tracks, Vec::new(), EscrowView::default())
        .with_credits(credits, claimed)
}

fn model(id: ModelId, slots: &[Slot]) -> ModelView {
    ModelView {
        id,
        owner: slots[0].payee,
        kind: Kind::Base,
        parents: Vec::new(),
        inherit_ppm: 0,
        slots: slots.to_vec(),
        royalty_ppm: 200_000,
        min_price: PriceFloor { input_pico_per_token: 100_000, output_pico_per_token: 700_000 },
        floor_ppm: 0,
        artifact_digest: B256::from(id.0),
        uri: format!("https://models.example/{}.gguf", &id.to_string()[2..10]),
        track: None,
        rows: Vec::new(),
        registered_at: 1_204,
    }
}

fn track(name: &str, champions: Vec<ModelId>) -> TrackView {
    TrackView {
        id: TrackId::of_name(name),
        name: name.to_owned(),
        owner: ALICE,
        champions,
        champion_inherit_ppm: 500_000,
        verifier_ppm: 0,
        verifiers: Address::ZERO,
        locked: false,
    }
}

fn windows(merge_pico: u128) -> Vec<WindowRow> {
    let window = |window, state, gas_used, charge_pico| WindowRow {
        journal: B256::repeat_byte(0x5a),
        window,
        state,
        since_ms: 1_795_340_000_000 + window * 1_000_000,
        models: 3,
        charge_pico,
        gas_used,
    };
    vec![
        window(4, WindowState::Open, 0, merge_pico / 20),
        window(3, WindowState::Submitted, 0, 1_310_000_000_000),
        window(2, WindowState::Confirmed, 284_113, 2_200_500_000_000),
        window(1, WindowState::Confirmed, 301_877, 1_914_000_000_000),
    ]
}
