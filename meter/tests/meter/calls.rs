//! Calls from open to receipt, through the public face.

use crate::support::*;
use dividend_chain::key::recover;
use dividend_meter::{
    Charge, CloseReason, Durability, Meter, MeterError, MeterOptions, PriceVersion, Totals, Usage, audit,
    export::export,
};

#[test]
fn a_call_is_charged_what_was_counted_and_its_receipt_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, recovered) = open(dir.path());
    assert!(recovered.begun);
    let guard = meter.open_call(opening(key(1), model(1))).unwrap();
    guard.prefilled(10);
    guard.generated(1);
    guard.generated(4);
    assert_eq!(guard.usage(), Usage { prompt_tokens: 10, completion_tokens: 5 });
    let id = guard.id();
    let closed = guard.close(CloseReason::Stop).unwrap();
    assert_eq!(closed.record.call, id);
    assert_eq!(closed.record.charge, Charge(10 * 3 + 5 * 7));
    assert_eq!(closed.receipt.chargePico, 65);
    let digest = deployment().receipt_domain().digest(&closed.receipt);
    let signature = closed.signature().unwrap();
    assert_eq!(recover(digest, &signature).unwrap(), operator().key.address());
    assert_eq!(meter.sign_receipt(&meter.call(id).unwrap()).unwrap(), (closed.receipt, signature));
    assert_eq!(meter.payer_total(key(1)), Charge(65));
    let totals = Totals { calls: 1, prompt_tokens: 10, completion_tokens: 5, charge: Charge(65) };
    assert_eq!(meter.lane_total(key(1), model(1)), totals);
    assert_eq!(meter.accrued_by_model(), [(model(1), totals)]);
    assert_eq!(meter.window_totals(), (0, vec![(key(1), model(1), totals)]));
}

#[test]
fn a_dropped_guard_closes_as_cancelled_and_an_unwinding_one_as_panicked() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    let guard = meter.open_call(opening(key(1), model(1))).unwrap();
    guard.generated(3);
    let cancelled = guard.id();
    drop(guard);
    let guard = meter.open_call(opening(key(1), model(1))).unwrap();
    let panicked = guard.id();
    let thread = std::thread::spawn(move || {
        guard.generated(2);
        panic!("the request's task fails, as this test wants");
    });
    assert!(thread.join().is_err());
    let reason_and_tokens = |call| {
        let record = meter.call(call).unwrap();
        (record.reason, record.usage.completion_tokens)
    };
    assert_eq!(reason_and_tokens(cancelled), (CloseReason::Cancelled, 3));
    assert_eq!(reason_and_tokens(panicked), (CloseReason::Panicked, 2));
    assert_eq!(meter.health().in_flight, 0);
}

#[test]
fn refusals_name_the_value_and_meter_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = MeterOptions { slots: 1, ..options() };
    let (meter, _) = Meter::open(dir.path(), options, operator(), clock()).unwrap();
    let price = PriceVersion { version: 1, in_pico_per_token: u64::MAX, out_pico_per_token: 0 };
    let dear = meter.open_call(dividend_meter::CallOpening { price, ..opening(key(1), model(1)) });
    assert!(matches!(dear.err(), Some(MeterError::Price { pico_per_token: u64::MAX, .. })));
    let guard = meter.open_call(opening(key(1), model(1))).unwrap();
    let again = dividend_meter::CallOpening { call: Some(guard.id()), ..opening(key(1), model(1)) };
    assert!(
        matches!(meter.open_call(again).err(), Some(MeterError::DuplicateCall(call)) if call == guard.id())
    );
    let full = meter.open_call(opening(key(1), model(1))).err().unwrap();
    assert!(full.refuses_calls());
    assert!(full.to_string().contains("all 1 calls"), "{full}");
    guard.close(CloseReason::Stop).unwrap();
    assert_eq!(audit(dir.path()).unwrap().unwrap().records, 2);
}

#[test]
fn a_second_writer_is_told_who_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let (_meter, _) = open(dir.path());
    let error = try_open(dir.path(), clock()).err().unwrap();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn a_journal_belongs_to_one_deployment() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut other = operator();
    other.deployment.chain_id = 1;
    let error = Meter::open(dir.path(), options(), other, clock()).err().unwrap();
    assert!(matches!(error, MeterError::OtherDeployment { .. }), "{error}");
    assert!(error.to_string().contains("chain 31337"), "{error}");
}

#[tokio::test]
async fn power_durability_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = MeterOptions { durability: Durability::Power, ..options() };
    let (meter, _) = Meter::open(dir.path(), options, operator(), clock()).unwrap();
    for _ in 0..20 {
        let guard = meter.open_call(opening(key(1), model(1))).unwrap();
        let mut closed = guard.close(CloseReason::Stop).unwrap();
        closed.durable().await.unwrap();
        let health = meter.health();
        assert_eq!(health.durable_bytes, health.journal_bytes);
    }
}

#[test]
fn vouchers_only_rise() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    for max in [100, 50, 100, 200] {
        meter.journal_voucher(voucher(1, 2, max), [max as u8; 65]).unwrap();
    }
    let lane = |meter: &Meter| {
        let id = voucher(1, 2, 0);
        meter.highest_voucher(id.channel, id.lane).unwrap()
    };
    assert_eq!(lane(&meter).voucher.maxCumulative, 200);
    assert_eq!(lane(&meter).signature, [200; 65]);
    drop(meter);
    let (meter, recovered) = open(dir.path());
    assert_eq!(recovered.records, 2, "what adds nothing is not appended");
    assert_eq!(lane(&meter).voucher.maxCumulative, 200);
}

#[test]
fn export_writes_one_object_per_record() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    meter.journal_voucher(voucher(1, 1, u128::MAX), [7; 65]).unwrap();
    let guard = meter.open_call(opening(channel(1), model(1))).unwrap();
    guard.prefilled(10);
    guard.generated(2);
    let id = guard.id();
    guard.close(CloseReason::Length).unwrap();
    meter.seal_window().unwrap();
    let mut out = Vec::new();
    assert_eq!(export(dir.path(), None, &mut out).unwrap(), Some(4));
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["voucher", "open", "close", "seal"]);
    assert!(text.contains(&format!("\"max_cumulative_pico\":{}", u128::MAX)));
    let close = &lines[2];
    assert_eq!(close["call"], id.to_string());
    assert_eq!(close["window"], 0);
    assert_eq!(close["payer"], channel(1).to_string());
    assert_eq!(close["model"], model(1).to_string());
    assert_eq!(close["prompt_tokens"], 10);
    assert_eq!(close["completion_tokens"], 2);
    assert_eq!(close["charge_pico"], 44);
    assert_eq!(close["reason"], "length");
    assert_eq!(export(dir.path(), Some(1), &mut Vec::new()).unwrap(), Some(0));
}
