//! The live source over a real journal and a real ledger.

use std::path::Path;
use std::sync::Arc;

use crate::fixture::{LEFT, MERGE};
use dividend_chain::{Address, B256, Key};
use dividend_config::Prices;
use dividend_dashboard::{LiveInputs, LiveSource, Moment, Source, WindowState};
use dividend_meter::{
    CallOpening, CloseReason, Deployment, Meter, MeterOptions, Payer, PriceVersion, SystemClock,
};
use dividend_settlement::ledger::Ledger;
use tokio::sync::watch;

fn meter(dir: &Path) -> Meter {
    let deployment = Deployment {
        chain_id: 1,
        usage_ledger: Address::repeat_byte(1),
        payment_channels: Address::repeat_byte(2),
    };
    let operator = dividend_meter::Operator { key: Key::generate(), deployment };
    Meter::open(dir, MeterOptions::default(), operator, Arc::new(SystemClock)).unwrap().0
}

/// 1,000 tokens in and 100 out, at $2 and $10 per million: 3·10⁹ pico-dollars.
fn call(meter: &Meter, payer: Payer, model: dividend_registry::ModelId) {
    let price = PriceVersion { version: 0, in_pico_per_token: 2_000_000, out_pico_per_token: 10_000_000 };
    let opening = CallOpening {
        call: None,
        payer,
        model,
        block: 1,
        price,
        prompt_tokens: 1_000,
        hold_pico: 10_000_000_000,
    };
    let guard = meter.open_call(opening).unwrap();
    guard.prefilled(1_000);
    guard.generated(100);
    guard.close(CloseReason::Stop).unwrap();
}

fn ledger(home: &Path) -> Arc<Ledger> {
    Arc::new(Ledger::open(&home.join("ledger.redb"), "test").unwrap())
}

async fn look(home: &Path, ledger: &Arc<Ledger>) -> Arc<Moment> {
    let (_snapshots, snapshots) = watch::channel(crate::fixture::moment(0).snapshot);
    let (journal_dir, ledger) = (home.join("serve"), ledger.clone());
    let inputs = LiveInputs { snapshots, journal_dir, ledger, prices: Prices::default() };
    LiveSource::start(inputs, std::future::ready(())).await.moment()
}

#[tokio::test]
async fn a_stack_that_has_served_nothing_has_pages_too() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("serve")).unwrap();
    let moment = look(home.path(), &ledger(home.path())).await;
    assert!(moment.problems.is_empty() && moment.windows.is_empty() && moment.usage.is_empty(), "{moment:?}");
}

#[tokio::test]
async fn closed_calls_show_before_their_window_is_settled() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("serve");
    std::fs::create_dir(&dir).unwrap();
    let meter = meter(&dir);
    call(&meter, Payer::Key([1; 32]), MERGE);
    call(&meter, Payer::Channel(B256::repeat_byte(3)), MERGE);
    call(&meter, Payer::Key([2; 32]), LEFT);

    let ledger = ledger(home.path());
    let moment = look(home.path(), &ledger).await;
    let merge = moment.usage[&MERGE];
    assert_eq!((merge.calls, merge.prompt_tokens, merge.completion_tokens), (2, 2_000, 200));
    assert_eq!(merge.charge.0, 6_000_000_000);
    assert_eq!(
        moment.lanes.iter().count(),
        3,
        "a lane by key and one by channel for the merge, one by key for the fork"
    );
    let [open] = moment.windows.as_slice() else { panic!("one window: {:?}", moment.windows) };
    assert_eq!(
        (open.window, open.state, open.models, open.charge_pico),
        (0, WindowState::Open, 2, 9_000_000_000)
    );

    meter.seal_window().unwrap().unwrap();
    let later = look(home.path(), &ledger).await;
    assert_eq!((later.windows[0].window, later.windows[0].charge_pico), (1, 0));
    assert_eq!(later.usage[&MERGE], merge, "what was counted stays counted");
}
