//! A disk that takes no more records, played by `/dev/full`: nothing new begins, and no count is lost.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

use alloy::primitives::{Address, B256};
use dividend_chain::Key;
use dividend_registry::ModelId;

use crate::meter::Operator;
use crate::{
    CallOpening, CloseReason, Deployment, ManualClock, Meter, MeterError, MeterOptions, Payer, PriceVersion,
    audit,
};

fn open(dir: &Path) -> Meter {
    let (usage_ledger, payment_channels) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let deployment = Deployment { chain_id: 1, usage_ledger, payment_channels };
    let operator = Operator { key: Key::from_bytes(B256::repeat_byte(3)).unwrap(), deployment };
    Meter::open(dir, MeterOptions::default(), operator, Arc::new(ManualClock::at(1))).unwrap().0
}

fn opening() -> CallOpening {
    CallOpening {
        call: None,
        payer: Payer::Key([1; 32]),
        model: ModelId([2; 32]),
        block: 0,
        price: PriceVersion { version: 1, in_pico_per_token: 1, out_pico_per_token: 1 },
        prompt_tokens: 1,
        hold_pico: 0,
    }
}

#[test]
fn a_full_disk_refuses_new_calls_and_keeps_every_count() {
    let dir = tempfile::tempdir().unwrap();
    let meter = open(dir.path());
    let [closed, dropped] = [(); 2].map(|()| meter.open_call(opening()).unwrap());
    closed.generated(5);
    dropped.generated(7);
    let (first, second) = (closed.id(), dropped.id());
    let full = Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let disk = meter.inner.core().writer.replace_file(full);
    assert!(matches!(closed.close(CloseReason::Stop).unwrap_err(), MeterError::Append { unclosed: 1, .. }));
    drop(dropped);
    let refused = meter.open_call(opening()).err().unwrap();
    assert!(refused.refuses_calls(), "{refused}");
    assert!(refused.to_string().contains("No space left"), "{refused}");
    let health = meter.health();
    assert_eq!((health.unclosed, health.in_flight), (2, 2));
    assert!(health.append_error.is_some());
    meter.inner.core().writer.replace_file(disk);
    drop(meter.open_call(opening()).unwrap());
    let tokens = |call| meter.call(call).unwrap().usage.completion_tokens;
    assert_eq!((tokens(first), tokens(second)), (5, 7));
    assert_eq!(meter.call(first).unwrap().reason, CloseReason::Stop);
    assert_eq!(meter.health().append_error, None);
    assert_eq!(audit(dir.path()).unwrap().unwrap().open_calls, []);
}

#[test]
fn a_count_that_the_disk_refused_is_recovered_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let meter = open(dir.path());
    let guard = meter.open_call(opening()).unwrap();
    guard.generated(9);
    let full = Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
    meter.inner.core().writer.replace_file(full);
    drop(guard);
    drop(meter);
    let (_, usage) = crate::slots::Slots::leftovers(dir.path()).unwrap()[0];
    assert_eq!(usage.completion_tokens, 9);
    let meter = open(dir.path());
    assert_eq!(meter.payer_total(Payer::Key([1; 32])).pico(), 9);
}
