//! Windows: seals, proofs, and that both follow from the journal alone.

use crate::support::*;
use dividend_meter::audit::SealState;
use dividend_meter::{CallId, CloseReason, LiveLedger, Meter, MeterError, Seal, audit};

/// One call per payer and model, `tokens` out.
fn serve(meter: &Meter, tokens: u32) -> Vec<CallId> {
    let payers = [key(1), key(2), channel(1), channel(2)];
    let lanes = payers.into_iter().flat_map(|payer| [(payer, model(1)), (payer, model(2))]);
    let serve_one = |(payer, model)| {
        let guard = meter.open_call(opening(payer, model)).unwrap();
        guard.prefilled(10);
        guard.generated(tokens);
        guard.close(CloseReason::Stop).unwrap().record.call
    };
    lanes.map(serve_one).collect()
}

fn read_seal(dir: &std::path::Path, window: u64) -> Seal {
    let json = std::fs::read(dir.join(format!("seals/{window}.json"))).unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[test]
fn a_seal_sums_its_window_and_the_next_begins_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    meter.journal_voucher(voucher(1, 1, 500), [5; 65]).unwrap();
    serve(&meter, 1);
    let first = meter.seal_window().unwrap().unwrap();
    serve(&meter, 2);
    let second = meter.seal_window().unwrap().unwrap();
    assert_eq!(read_seal(dir.path(), 0), first);
    assert_eq!(read_seal(dir.path(), 1), second);
    assert_eq!((first.window, second.window), (0, 1));
    assert_eq!(second.first_offset, first.last_offset);
    assert_eq!(second.models[0].prepaid_sum_pico, 2 * (30 + 14));
    assert_eq!(second.models[0].channel_sum_pico, 2 * (30 + 14));
    assert_eq!(second.models[0].calls, 4);
    assert_eq!(second.totals.len(), 8);
    assert_eq!(second.digest, second.compute_digest());
    // Served in both windows, counted since the journal began.
    assert_eq!(first.vouchers.len(), 1);
    assert_eq!(second.vouchers[0].cumulative_pico, 37 + 44);
    assert_eq!(second.vouchers[0].max_cumulative_pico, 500);
}

#[test]
fn an_empty_window_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    assert_eq!(meter.seal_window().unwrap(), None);
    serve(&meter, 1);
    assert_eq!(meter.seal_window().unwrap().unwrap().window, 0);
    assert_eq!(meter.seal_window().unwrap(), None);
    serve(&meter, 1);
    assert_eq!(meter.seal_window().unwrap().unwrap().window, 1);
}

#[test]
fn a_window_is_due_an_interval_after_its_first_close() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let (meter, _) = try_open(dir.path(), clock.clone()).unwrap();
    let hour = options().window_ms;
    assert!(!meter.seal_due(START_MS + 10 * hour), "it is empty");
    clock.advance_ms(5 * hour);
    serve(&meter, 1);
    let closed_at = START_MS + 5 * hour;
    assert!(!meter.seal_due(closed_at + hour - 1));
    assert!(meter.seal_due(closed_at + hour));
    assert_eq!(meter.sealed_by_ms(closed_at + 9), closed_at + 9 + hour, "it may be the first of its window");
}

#[test]
fn every_call_of_a_sealed_window_is_proved() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    let first = serve(&meter, 1);
    meter.seal_window().unwrap();
    let second = [serve(&meter, 2), serve(&meter, 3), serve(&meter, 4)].concat();
    let seal = meter.seal_window().unwrap().unwrap();
    let open_call = serve(&meter, 5)[0];
    for call in first.iter().chain(&second) {
        let proof = meter.proof(*call).unwrap();
        assert!(proof.holds().unwrap());
        assert_eq!(proof.record.call, *call);
    }
    let proof = meter.proof(second[0]).unwrap();
    assert_eq!(proof.leaves, 6);
    assert_eq!(proof.root.hash, seal.models[0].prepaid_root);
    assert_eq!(proof.root.sum_pico, seal.models[0].prepaid_sum_pico);
    let mut forged = meter.proof(second[0]).unwrap();
    forged.receipt.tokensOut += 1;
    assert!(!forged.holds().unwrap());
    assert!(matches!(meter.proof(open_call).unwrap_err(), MeterError::NotSealed { window: 2, .. }));
    assert!(matches!(meter.proof(CallId([1; 16])).unwrap_err(), MeterError::UnknownCall(_)));
}

#[test]
fn lost_seals_are_written_again_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    meter.journal_voucher(voucher(1, 1, 500), [5; 65]).unwrap();
    for tokens in 1..4 {
        serve(&meter, tokens);
        meter.seal_window().unwrap();
    }
    drop(meter);
    let path = dir.path().join("seals/1.json");
    let before = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(audit(dir.path()).unwrap().unwrap().windows[1].seal, SealState::Missing);
    let (_meter, recovered) = open(dir.path());
    assert_eq!(recovered.sealed_anew, [1]);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn an_audit_finds_a_changed_seal() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    serve(&meter, 1);
    let mut seal = meter.seal_window().unwrap().unwrap();
    assert!(audit(dir.path()).unwrap().unwrap().is_sound());
    seal.models[0].prepaid_sum_pico += 1;
    seal.digest = seal.compute_digest();
    std::fs::write(dir.path().join("seals/0.json"), serde_json::to_vec(&seal).unwrap()).unwrap();
    let report = audit(dir.path()).unwrap().unwrap();
    assert!(!report.is_sound());
    assert!(matches!(report.windows[0].seal, SealState::Differs(_)));
}

#[test]
fn seals_without_their_journal_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    serve(&meter, 1);
    let old = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), old.path());
    meter.seal_window().unwrap();
    copy_dir(&dir.path().join("seals"), &old.path().join("seals"));
    let error = try_open(old.path(), clock()).err().unwrap();
    assert!(matches!(error, MeterError::SealAhead { sealed: 0, window: 0, .. }), "{error}");
}

#[test]
fn a_seal_of_the_largest_amounts_survives_json() {
    let dir = tempfile::tempdir().unwrap();
    let (meter, _) = open(dir.path());
    meter.journal_voucher(voucher(1, 1, u128::MAX), [5; 65]).unwrap();
    serve(&meter, 1);
    let seal = meter.seal_window().unwrap().unwrap();
    assert_eq!(seal.vouchers[0].max_cumulative_pico, u128::MAX);
    assert_eq!(read_seal(dir.path(), 0), seal);
}

#[test]
fn a_follower_sees_what_the_writer_has_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = LiveLedger::new(dir.path());
    assert_eq!(live.refresh().unwrap(), 0);
    let (meter, _) = open(dir.path());
    for tokens in 1..6 {
        serve(&meter, tokens);
        meter.seal_window().unwrap();
        assert_eq!(live.refresh().unwrap(), 17);
        assert_eq!(live.ledger().unwrap().by_model(), meter.accrued_by_model());
        assert_eq!(live.journal_id(), Some(meter.journal_id()));
    }
}
