//! The ledger takes each seal once, in order, and moves nothing that has moved already.

#![expect(clippy::unwrap_used, reason = "a test cannot go on without its surroundings")]

use alloy::primitives::{B256, Bytes};
use dividend_settlement::Error;
use dividend_settlement::ledger::Ledger;
use dividend_settlement::records::{RedeemRow, SealRow, StoredClaim, StoredVoucher, WindowKey};
use dividend_settlement::seals::{SealedWindow, TouchedLane, row_hash};
use dividend_settlement::transitions::{Event, State};
use tempfile::TempDir;

const JOURNAL: B256 = B256::repeat_byte(1);
const CHANNEL: B256 = B256::repeat_byte(2);
const MODEL: B256 = B256::repeat_byte(3);

fn ledger() -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger.redb"), "chain 1, operator A").unwrap();
    (dir, ledger)
}

fn voucher(max_pico: u128) -> StoredVoucher {
    StoredVoucher { max_pico, expiry: 4_000_000_000, signature: Bytes::from(vec![1; 65]) }
}

fn seal(journal: B256, window: u64, charge_pico: u128, max_pico: u128) -> SealedWindow {
    let lane = TouchedLane { channel: CHANNEL, model: MODEL, charge_pico, voucher: Some(voucher(max_pico)) };
    let digest = B256::left_padding_from(&charge_pico.to_be_bytes());
    SealedWindow { key: WindowKey { journal, window }, digest, rows: Vec::new(), lanes: vec![lane] }
}

#[test]
fn a_seal_is_taken_in_once_and_in_order() {
    let (_dir, ledger) = ledger();
    assert!(ledger.take_in(seal(JOURNAL, 0, 5, 10), 1).unwrap());
    assert!(!ledger.take_in(seal(JOURNAL, 0, 5, 10), 2).unwrap());
    assert_eq!(ledger.lanes().unwrap()[0].served_pico, 5);

    let changed = ledger.take_in(seal(JOURNAL, 0, 6, 10), 3).unwrap_err();
    assert!(matches!(changed, Error::SealChanged { .. }), "{changed}");
    let gap = ledger.take_in(seal(JOURNAL, 2, 1, 10), 3).unwrap_err();
    assert!(matches!(gap, Error::SealGap { expected: 1, .. }), "{gap}");
    assert_eq!(ledger.lanes().unwrap()[0].served_pico, 5);
    assert_eq!(ledger.windows_from(JOURNAL, 0).unwrap().len(), 1);
}

#[test]
fn a_lane_adds_up_over_journals_and_keeps_its_highest_voucher() {
    let (_dir, ledger) = ledger();
    let other = B256::repeat_byte(9);
    ledger.take_in(seal(JOURNAL, 0, 5, 100), 1).unwrap();
    ledger.take_in(seal(other, 0, 7, 50), 2).unwrap();
    ledger.take_in(seal(JOURNAL, 1, 11, 60), 3).unwrap();
    let [lane] = <[_; 1]>::try_from(ledger.lanes().unwrap()).unwrap();
    assert_eq!((lane.served_pico, lane.voucher), (23, Some(voucher(100))));
    assert_eq!(lane.waiting_since_ms, 1, "the oldest value decides the age");
    let window = ledger.window(WindowKey { journal: JOURNAL, window: 1 }).unwrap().unwrap();
    assert_eq!(window.lanes[0].served_pico, 23);
}

#[test]
fn a_total_beyond_128_bits_is_refused_and_changes_nothing() {
    let (_dir, ledger) = ledger();
    ledger.take_in(seal(JOURNAL, 0, u128::MAX, 10), 1).unwrap();
    let overflow = ledger.take_in(seal(JOURNAL, 1, 1, 10), 2).unwrap_err();
    assert!(matches!(overflow, Error::Overflow { .. }), "{overflow}");
    assert_eq!(ledger.windows_from(JOURNAL, 0).unwrap().len(), 1);
    assert_eq!(ledger.lanes().unwrap()[0].served_pico, u128::MAX, "the largest amount survives its JSON");
}

#[test]
fn a_step_is_taken_from_the_expected_state_only() {
    let (_dir, ledger) = ledger();
    let key = WindowKey { journal: JOURNAL, window: 0 };
    ledger.take_in(seal(JOURNAL, 0, 5, 10), 1).unwrap();
    let stale = ledger.advance_window(key, State::Signed, Event::Submit, 2, |_| ()).unwrap_err();
    assert!(matches!(stale, Error::Conflict { found: Some(State::Sealed), .. }), "{stale}");
    let unheard = ledger.advance_window(key, State::Sealed, Event::Confirm, 2, |_| ()).unwrap_err();
    assert!(matches!(unheard, Error::Transition { .. }), "{unheard}");
    let unknown = WindowKey { journal: JOURNAL, window: 7 };
    let missing = ledger.advance_window(unknown, State::Sealed, Event::Sign, 2, |_| ()).unwrap_err();
    assert!(matches!(missing, Error::Conflict { found: None, .. }), "{missing}");
    assert_eq!(ledger.window(key).unwrap().unwrap().state(), State::Sealed);
}

#[test]
fn the_cursor_follows_confirmation_and_goes_back_with_the_chain() {
    let (_dir, ledger) = ledger();
    for window in 0..2 {
        let key = WindowKey { journal: JOURNAL, window };
        ledger.take_in(seal(JOURNAL, window, 5, 10), 1).unwrap();
        for (from, event) in
            [(State::Sealed, Event::Sign), (State::Signed, Event::Submit), (State::Submitted, Event::Confirm)]
        {
            ledger.advance_window(key, from, event, 2, |_| ()).unwrap();
        }
    }
    let cursor = |ledger: &Ledger| ledger.journals().unwrap()[0].1;
    assert_eq!((cursor(&ledger).unconfirmed, cursor(&ledger).next), (2, 2));
    let back = WindowKey { journal: JOURNAL, window: 0 };
    let record = ledger.advance_window(back, State::Confirmed, Event::RollBack, 3, |_| ()).unwrap();
    assert_eq!((record.state(), record.progress.attempt), (State::Signed, 1));
    assert_eq!((cursor(&ledger).unconfirmed, cursor(&ledger).next), (0, 2));
}

#[test]
fn batches_are_numbered_once_for_ever() {
    let (_dir, ledger) = ledger();
    ledger.take_in(seal(JOURNAL, 0, 5, 10), 1).unwrap();
    let claim = StoredClaim { cumulative_pico: 5, seal_digest: B256::ZERO, signature: Bytes::new() };
    let row = RedeemRow { channel: CHANNEL, model: MODEL, voucher: voucher(10), claim };
    for number in 0..3 {
        let batch = ledger.begin_batch(vec![row.clone()], 2).unwrap();
        assert_eq!(batch.number, number);
        ledger.advance_batch(number, State::Signed, Event::Submit, 3, |_| (), |_| ()).unwrap();
        let paid = |lane: &mut dividend_settlement::records::LaneRecord| lane.paid_units = u128::from(number);
        ledger
            .advance_batch(number, State::Submitted, Event::Confirm, 4, |batch| batch.gas_used = 9, paid)
            .unwrap();
        assert!(ledger.open_batches().unwrap().is_empty());
    }
    assert_eq!(ledger.confirmed_batches().unwrap().len(), 3);
    assert_eq!(ledger.lanes().unwrap()[0].paid_units, 2);
}

#[test]
fn a_ledger_outlives_its_process_and_knows_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    Ledger::open(&path, "A").unwrap().take_in(seal(JOURNAL, 0, 5, 10), 1).unwrap();
    let again = Ledger::open(&path, "A").unwrap();
    assert_eq!(again.lanes().unwrap()[0].served_pico, 5);
    assert!(matches!(Ledger::open(&path, "A").err(), Some(Error::Locked { .. })));
    drop(again);
    assert!(matches!(Ledger::open(&path, "B").err(), Some(Error::ForeignLedger { .. })));
    std::fs::write(&path, b"not a database").unwrap();
    let corrupt = Ledger::open(&path, "A").err().expect("garbage is no ledger").to_string();
    assert!(corrupt.contains("ledger.redb"), "{corrupt}");
}

/// keccak256 of the four words, by an independent implementation.
#[test]
fn a_row_is_hashed_as_the_contract_hashes_it() {
    let row = SealRow {
        model: MODEL,
        prepaid_root: B256::ZERO,
        prepaid_pico: 0,
        channel_root: B256::ZERO,
        channel_pico: 0,
    };
    let expected = "0x012893657d8eb2efad4de0a91bcd0e39ad9837745dec3ea923737ea803fc8e3d";
    assert_eq!(row_hash(&row).to_string(), expected);
}
