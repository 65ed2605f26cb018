//! Flattening in Rust against the deployed contract, over random lineage graphs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use alloy::primitives::{Address, B256, keccak256};
use dividend_chain::bindings::ILineageRegistry::{self, Kind, NodeInput};
use dividend_chain::testing::Deployed;
use dividend_chain::{Follower, Intent};
use dividend_registry::flatten::{FlattenError, Parent, Terms};
use dividend_registry::{ModelId, Row, TrackId, flatten};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const NODES: usize = 160;
const POT_PPM: u32 = 41_000;
const TRACK: &str = "differential";

/// A node in the making; parents point to nodes before it.
#[derive(Clone, Debug)]
struct Draft {
    parents: Vec<(usize, u32)>,
    inherit_ppm: u32,
    royalty_ppm: u32,
    floor_ppm: u32,
    on_track: bool,
}

fn draft(before: usize) -> impl Strategy<Value = Draft> {
    // Half of the picks are recent nodes, so that lines get long; the rest make wide diamonds.
    let recent = before.saturating_sub(4)..before.max(1);
    let pick = prop_oneof![recent, 0..before.max(1)];
    let picks = prop::collection::vec((pick, 1..1_000u32), 0..=if before < 4 { 0 } else { 8 });
    let royalty = prop_oneof![1 => Just(0), 1 => 1..=60_000u32, 6 => 60_000..=500_000u32];
    let floor = prop_oneof![4 => Just(0), 1 => 1..=20_000u32];
    (picks, 1..=800_000u32, royalty, floor, any::<bool>()).prop_map(assemble)
}

fn assemble(
    (picks, inherit, royalty_ppm, floor_ppm, on_track): (Vec<(usize, u32)>, u32, u32, u32, bool),
) -> Draft {
    let mut parents: Vec<(usize, u32)> = Vec::new();
    for (parent, weight) in picks {
        if parents.iter().all(|(known, _)| *known != parent) {
            parents.push((parent, weight));
        }
    }
    let sum: u32 = parents.iter().map(|(_, weight)| weight).sum();
    for (_, weight) in &mut parents {
        *weight *= 1_000_000 / sum;
    }
    if let Some(first) = parents.first_mut() {
        first.1 += 1_000_000 % sum;
    }
    let inherit_ppm = if parents.is_empty() { 0 } else { inherit };
    Draft { parents, inherit_ppm, royalty_ppm, floor_ppm, on_track }
}

/// What was registered so far: id, table, and the pot that the table may hold.
struct Known {
    id: ModelId,
    rows: Vec<Row>,
    pot: Option<ModelId>,
}

fn expected(draft: &Draft, id: ModelId, known: &[Known]) -> Result<Vec<Row>, FlattenError> {
    let parent = |(i, weight_ppm): &(usize, u32)| {
        let Known { rows, pot, .. } = &known[*i];
        Parent { weight_ppm: *weight_ppm, rows, pot: *pot }
    };
    let parents: Vec<Parent<'_>> = draft.parents.iter().map(parent).collect();
    let pot = draft.on_track.then(|| (TrackId::of_name(TRACK).pot(), POT_PPM));
    let Draft { inherit_ppm, royalty_ppm, floor_ppm, .. } = *draft;
    flatten(id, &parents, &Terms { inherit_ppm, royalty_ppm, floor_ppm, pot })
}

fn input(draft: &Draft, digest: B256, known: &[Known]) -> NodeInput {
    let parent = |(i, weight): &(usize, u32)| ILineageRegistry::Parent {
        node: known[*i].id.into(),
        weightPpm: *weight,
    };
    NodeInput {
        parents: draft.parents.iter().map(parent).collect(),
        inheritPpm: draft.inherit_ppm,
        slots: vec![ILineageRegistry::Slot { payee: Address::repeat_byte(1), sharePpm: 1_000_000 }],
        royaltyPpm: draft.royalty_ppm,
        minPriceIn: 0,
        minPriceOut: 0,
        floorPpm: draft.floor_ppm,
        artifactDigest: digest,
        uri: String::new(),
        kind: if draft.parents.is_empty() { Kind::Base } else { Kind::Fork },
        track: if draft.on_track { TrackId::of_name(TRACK).into() } else { B256::ZERO },
    }
}

async fn create_track(deployed: &Deployed) {
    let charter = dividend_registry::Charter {
        sponsors: Vec::new(),
        open: true,
        royaltyCapPpm: 0,
        championInheritPpm: 0,
        verifierPpm: POT_PPM,
        competitions: Address::ZERO,
        verifiers: Address::repeat_byte(2),
    };
    let registry = deployed.deployment.contracts.lineage_registry;
    dividend_registry::create_track(&deployed.sender, registry, TRACK, charter).await.unwrap();
}

/// Commits to every digest at once; the salt is zero for all.
async fn commit_all(deployed: &Deployed, digests: &[B256]) {
    let registry = deployed.deployment.contracts.lineage_registry;
    let mut commits = Vec::new();
    for digest in digests {
        let sender = deployed.sender.address();
        let of = ILineageRegistry::commitmentOfCall { sender, artifactDigest: *digest, salt: B256::ZERO };
        let commitment = deployed.anvil.rpc().call(registry, &of).await.unwrap();
        let call = ILineageRegistry::commitCall { commitment };
        commits
            .push(Intent { gas: Some(100_000), ..Intent::call(format!("commit/{digest}"), registry, &call) });
    }
    let last = commits.last().unwrap().id.clone();
    deployed.sender.submit(commits).await.unwrap();
    deployed.sender.mined(&last).await.unwrap();
    deployed.anvil.mine(64).await.unwrap();
    deployed.sender.tick().await.unwrap();
}

fn name_of(error: FlattenError) -> &'static str {
    match error {
        FlattenError::FloorWithoutRoyalty { .. } => "FloorWithoutRoyalty",
        FlattenError::TooManyFloors { .. } => "TooManyFloors",
        FlattenError::FloorsTooHigh { .. } => "FloorsTooHigh",
    }
}

#[tokio::test]
async fn random_graphs_flatten_alike_in_rust_and_on_the_chain() {
    let deployed = Deployed::start().await.unwrap();
    create_track(&deployed).await;
    let registry = deployed.deployment.contracts.lineage_registry;
    let digests: Vec<B256> = (0..NODES).map(|i| keccak256(i.to_be_bytes())).collect();
    commit_all(&deployed, &digests).await;
    let mut runner = TestRunner::deterministic();
    let mut known: Vec<Known> = Vec::new();
    let (mut refused, mut widest) = (0, 0);
    for digest in digests {
        let draft = draft(known.len()).new_tree(&mut runner).unwrap().current();
        let ask = ILineageRegistry::nodeIdCall { artifactDigest: digest };
        let id = ModelId::from(deployed.anvil.rpc().call(registry, &ask).await.unwrap());
        let call = ILineageRegistry::registerCall { input: input(&draft, digest, &known), salt: B256::ZERO };
        let sent = deployed.sender.send(Intent::call(format!("register/{digest}"), registry, &call)).await;
        match (expected(&draft, id, &known), sent) {
            (Ok(rows), Ok(_)) => {
                widest = widest.max(rows.len());
                let pot = draft.on_track.then(|| TrackId::of_name(TRACK).pot());
                known.push(Known { id, rows, pot });
            }
            (Err(error), Err(reason)) => {
                let reason = reason.to_string();
                assert!(reason.contains(name_of(error)), "{error} here, {reason} there: {draft:?}");
                refused += 1;
            }
            (here, there) => panic!("{here:?} here, {there:?} there: {draft:?}"),
        }
    }
    assert!(refused > 5 && widest > 20, "the graphs are too tame: {refused} refused, widest {widest}");
    let settings = deployed.anvil.settings();
    let mut follower = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &settings).unwrap();
    let snapshots = dividend_registry::follow(&mut follower, &deployed.deployment);
    follower.poll().await.unwrap();
    let snapshot = snapshots.borrow().clone();
    assert_eq!(snapshot.models().count(), known.len());
    for Known { id, rows, .. } in &known {
        assert_eq!(&snapshot.model(*id).unwrap().rows, rows, "{id}");
    }
}
