//! Golden vectors shared with the contract, and I5 over random graphs.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    nodes: Vec<ModelId>,
    pot: ModelId,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    nodes: Vec<Node>,
    expect: Vec<(ModelId, u32, u32)>,
    error: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Node {
    parents: Vec<(usize, u32)>,
    inherit_ppm: u32,
    royalty_ppm: u32,
    floor_ppm: u32,
    pot_ppm: u32,
}

/// Tables of `nodes`, up to the first that is refused.
fn tables(ids: &[ModelId], pot: ModelId, nodes: &[Node]) -> Vec<Result<Vec<Row>, FlattenError>> {
    let mut done: Vec<Result<Vec<Row>, FlattenError>> = Vec::new();
    for (node, id) in nodes.iter().zip(ids) {
        let parents: Vec<(u32, Vec<Row>)> =
            node.parents.iter().map(|(i, weight)| (*weight, done[*i].clone().unwrap())).collect();
        let parents: Vec<Parent<'_>> = parents
            .iter()
            .map(|(weight_ppm, rows)| Parent { weight_ppm: *weight_ppm, rows, pot: Some(pot) })
            .collect();
        let terms = Terms {
            inherit_ppm: node.inherit_ppm,
            royalty_ppm: node.royalty_ppm,
            floor_ppm: node.floor_ppm,
            pot: Some((pot, node.pot_ppm)),
        };
        done.push(flatten(*id, &parents, &terms));
        if done.last().is_some_and(Result::is_err) {
            break;
        }
    }
    done
}

#[test]
fn golden_vectors() {
    let text = include_str!("../../../fixtures/flatten.json");
    let vectors: Vectors = serde_json::from_str(text).unwrap();
    assert!(vectors.cases.len() >= 10);
    for case in &vectors.cases {
        let done = tables(&vectors.nodes, vectors.pot, &case.nodes);
        assert_eq!(done.len(), case.nodes.len(), "{}: a node before the last is refused", case.name);
        let error = match done.last().unwrap() {
            Ok(rows) => {
                let rows: Vec<_> = rows.iter().map(|r| (r.node, r.share_ppm, r.floor_ppm)).collect();
                assert_eq!(rows, case.expect, "{}", case.name);
                ""
            }
            Err(FlattenError::FloorWithoutRoyalty { .. }) => "FloorWithoutRoyalty",
            Err(FlattenError::TooManyFloors { .. }) => "TooManyFloors",
            Err(FlattenError::FloorsTooHigh { .. }) => "FloorsTooHigh",
        };
        assert_eq!(error, case.error, "{}", case.name);
    }
}

fn id(i: usize) -> ModelId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(i as u64 + 1).to_be_bytes());
    ModelId(bytes)
}

const POT: ModelId = ModelId([0xff; 32]);

prop_compose! {
    /// A node whose parents are among the `before` nodes before it.
    fn node(before: usize)(
        picks in prop::collection::vec((0..before.max(1), 1..1_000u32), 0..=if before == 0 { 0 } else { 16 }),
        inherit_ppm in 1..=800_000u32,
        royalty_ppm in prop_oneof![1 => Just(0u32), 8 => 1..=500_000u32],
        floor_ppm in prop_oneof![3 => Just(0u32), 1 => 1..=20_000u32],
        pot_ppm in prop_oneof![Just(0u32), 1..=50_000u32],
    ) -> Node {
        let mut parents: Vec<(usize, u32)> = Vec::new();
        for (parent, weight) in picks {
            if parents.iter().all(|(known, _)| *known != parent) {
                parents.push((parent, weight));
            }
        }
        let sum: u32 = parents.iter().map(|(_, weight)| weight).sum();
        for (_, weight) in &mut parents {
            *weight *= PPM / sum.max(1);
        }
        if let Some(first) = parents.first_mut() {
            first.1 += PPM - PPM / sum * sum;
        }
        let inherit_ppm = if parents.is_empty() { 0 } else { inherit_ppm };
        Node { parents, inherit_ppm, royalty_ppm, floor_ppm, pot_ppm }
    }
}

fn graph(size: usize) -> impl Strategy<Value = Vec<Node>> {
    (0..size).map(node).collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// I5: every table sums to 10⁶, honours every floor, and holds itself first, each node once, at most 32 and a pot.
    #[test]
    fn tables_are_whole_and_floors_hold(nodes in graph(40)) {
        let ids: Vec<ModelId> = (0..nodes.len()).map(id).collect();
        let done = tables(&ids, POT, &nodes);
        for (i, rows) in done.iter().enumerate().filter_map(|(i, rows)| Some((i, rows.as_ref().ok()?))) {
            prop_assert_eq!(rows[0].node, id(i));
            prop_assert_eq!(rows.iter().map(|r| u64::from(r.share_ppm)).sum::<u64>(), u64::from(PPM));
            let pot_ppm: u32 = rows.iter().filter(|r| r.node == POT).map(|r| r.share_ppm).sum();
            prop_assert_eq!(pot_ppm, nodes[i].pot_ppm);
            prop_assert!(rows.len() <= MAX_ROWS + usize::from(pot_ppm > 0));
            for (n, row) in rows.iter().enumerate() {
                prop_assert!(rows[..n].iter().all(|other| other.node != row.node));
                // share · royalty ≥ floor · 10⁶, both parts of the price
                let paid = u64::from(row.share_ppm) * u64::from(nodes[i].royalty_ppm);
                prop_assert!(paid >= u64::from(row.floor_ppm) * u64::from(PPM));
            }
        }
    }

    /// No intermediate washes out a floor: every floored row of a parent is in the child, with no lower floor.
    #[test]
    fn floors_are_inherited_and_nothing_appears_from_nowhere(nodes in graph(25)) {
        let ids: Vec<ModelId> = (0..nodes.len()).map(id).collect();
        let done = tables(&ids, POT, &nodes);
        for (i, rows) in done.iter().enumerate().filter_map(|(i, rows)| Some((i, rows.as_ref().ok()?))) {
            let parents: Vec<&Vec<Row>> =
                nodes[i].parents.iter().map(|(p, _)| done[*p].as_ref().unwrap()).collect();
            for theirs in parents.iter().flat_map(|rows| rows.iter()).filter(|row| row.floor_ppm > 0) {
                let mine = rows.iter().find(|row| row.node == theirs.node);
                prop_assert!(mine.is_some_and(|mine| mine.floor_ppm >= theirs.floor_ppm));
            }
            for mine in rows.iter().filter(|row| row.node != POT && row.node != id(i)) {
                prop_assert!(parents.iter().any(|rows| rows.iter().any(|row| row.node == mine.node)));
            }
        }
    }

    /// Registration refuses a line without floors never, however long and wide.
    #[test]
    fn a_line_without_floors_always_goes_on(nodes in graph(40)) {
        let free: Vec<Node> = nodes.into_iter().map(|n| Node { floor_ppm: 0, ..n }).collect();
        let ids: Vec<ModelId> = (0..free.len()).map(id).collect();
        prop_assert!(tables(&ids, POT, &free).iter().all(Result::is_ok));
    }
}
