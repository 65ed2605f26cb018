//! The golden vectors that the contracts are held to as well.

use std::path::Path;

use dividend_settlement::lanes::{redeemable_units, split_units, target_units};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    royalty_ppm: u32,
    deposit: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    cumulative_pico: String,
    target: String,
    paid: String,
    royalty: String,
    operator: String,
}

#[test]
fn lanes_pay_as_the_golden_vectors_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lanes.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File = serde_json::from_slice(&text).unwrap();
    let number = |text: &str| text.parse::<u128>().unwrap();
    assert!(file.cases.len() >= 5, "the file holds only {} cases", file.cases.len());
    for case in file.cases {
        let deposit = number(&case.deposit);
        let mut paid = 0;
        for step in case.steps {
            let cumulative = number(&step.cumulative_pico);
            assert_eq!(target_units(cumulative), number(&step.target), "{}", case.name);
            paid += redeemable_units(cumulative, paid, deposit - paid);
            let split = split_units(paid, case.royalty_ppm);
            let figures = (split.charge_units, split.royalty_units, split.operator_units);
            let expected = (number(&step.paid), number(&step.royalty), number(&step.operator));
            assert_eq!(figures, expected, "{} at {cumulative} pico", case.name);
        }
    }
}
