//! The trees against `fixtures/merkle_sum.json`, which the contracts' tests read too.

use std::path::Path;

use dividend_chain::B256;
use dividend_meter::sumtree::{self, Node, Sibling};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    leaves: Vec<Leaf>,
    root: B256,
    sum: String,
    proofs: Vec<Vec<Step>>,
}

#[derive(Deserialize)]
struct Leaf {
    struct_hash: B256,
    sum: String,
}

#[derive(Deserialize)]
struct Step {
    hash: B256,
    sum: String,
    side: String,
}

#[test]
fn trees_and_proofs_equal_the_golden_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/merkle_sum.json");
    let fixture: Fixture = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(fixture.cases.len() >= 3, "{} has only {} cases", path.display(), fixture.cases.len());
    for case in fixture.cases {
        let leaves: Vec<Node> = case
            .leaves
            .iter()
            .map(|leaf| sumtree::leaf(leaf.struct_hash, leaf.sum.parse().unwrap()))
            .collect();
        let root = Node { hash: case.root, sum_pico: case.sum.parse().unwrap() };
        assert_eq!(sumtree::root(&leaves).unwrap(), root, "{}", case.name);
        assert_eq!(case.proofs.len(), leaves.len(), "{}", case.name);
        for (index, steps) in case.proofs.iter().enumerate() {
            let expected: Vec<Sibling> = steps.iter().map(sibling).collect();
            assert_eq!(sumtree::proof(&leaves, index).unwrap(), expected, "{} leaf {index}", case.name);
            assert_eq!(sumtree::climb(leaves[index], &expected).unwrap(), root, "{} leaf {index}", case.name);
        }
    }
}

fn sibling(step: &Step) -> Sibling {
    let left = match step.side.as_str() {
        "left" => true,
        "right" => false,
        other => panic!("side {other:?}"),
    };
    Sibling { left, hash: step.hash, sum_pico: step.sum.parse().unwrap() }
}
