//! The whole stack on real parts, broken as life breaks it: `serve` is killed in the middle of streams, then Redis, the
//! settler and the chain are, and the money still comes out to the last base unit.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod caller;
mod journal;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::process::Signal;
use support::client::Client;
use support::{Stack, within};

use caller::{Progress, Seen, stream};
use journal::Journal;

/// Times that `serve` is killed.
const KILLS: usize = 3;
/// Streams at once.
const STREAMS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_streams_nothing_is_lost_or_counted_twice() {
    let stack = Stack::start().await;
    let keys = [api_key(&stack, "first").await, api_key(&stack, "second").await];
    let mut seen = Vec::new();
    for round in 0..KILLS {
        seen.extend(cut_streams(&stack, &keys, round).await);
    }
    stack.kill("redis").await;
    let whole = streams(&stack, &keys, 12, Arc::default()).await;
    assert!(whole.iter().all(|seen| seen.usage.is_some()), "undisturbed calls end: {whole:?}");
    seen.extend(whole);

    let journal = Journal::of(&stack).await;
    every_call_is_closed_once(&journal, &seen);
    delivered_is_metered(&journal, &seen);
    the_aggregate_is_the_journal(&stack).await;

    stack.kill("anvil").await;
    stack.kill("settle").await;
    // A settler answers here once it has found the chain again.
    let settler = format!("{}/healthz", stack.endpoint("dashboard"));
    Client::with(&stack, &keys[0]).until_success(&settler).await;
    royalties_are_exact(&stack, &journal).await;
    stack.end(Signal::TERM).await;
}

async fn api_key(stack: &Stack, name: &str) -> String {
    let key = stack.run(&["keys", "create", "--credit", "100", "--name", name]).await;
    key["key"].as_str().unwrap().to_owned()
}

/// Streams until some events have come, kills `serve`, and answers what the callers got until then.
async fn cut_streams(stack: &Stack, keys: &[String], round: usize) -> Vec<Seen> {
    let progress = Arc::new(Progress::default());
    let calls = streams(stack, keys, 200, progress.clone());
    let kill = async {
        within("streams to begin", progress.reach(STREAMS * (3 + 4 * round))).await;
        stack.kill("serve").await;
    };
    let (seen, ()) = tokio::join!(calls, kill);
    assert!(seen.iter().any(|seen| seen.usage.is_none()), "no stream was cut in round {round}: {seen:?}");
    Client::with(stack, &keys[0]).until_ready().await;
    seen
}

async fn streams(stack: &Stack, keys: &[String], max_tokens: u32, progress: Arc<Progress>) -> Vec<Seen> {
    let calls: Vec<_> = (0..STREAMS)
        .map(|n| {
            let client = Client::with(stack, &keys[n % keys.len()]);
            tokio::spawn(stream(client, max_tokens, progress.clone()))
        })
        .collect();
    let mut seen = Vec::new();
    for call in calls {
        seen.extend(within("a stream to end", call).await.unwrap());
    }
    seen
}

/// I1.
fn every_call_is_closed_once(journal: &Journal, seen: &[Seen]) {
    assert!(journal.opens.values().chain(journal.closes.values()).all(|records| records.len() == 1));
    assert!(journal.opens.keys().eq(journal.closes.keys()), "opens and closes are of the same calls");
    for seen in seen {
        assert!(
            journal.opens.contains_key(&seen.call),
            "the journal lacks {}, which a caller saw",
            seen.call
        );
    }
}

/// I2: what the callers got was metered, and at most one chunk more of a call that was cut.
fn delivered_is_metered(journal: &Journal, seen: &[Seen]) {
    for seen in seen {
        let close = journal.close(&seen.call);
        let metered = close["completion_tokens"].as_u64().unwrap();
        match &seen.usage {
            Some(usage) => {
                assert_eq!(metered, usage["completion_tokens"].as_u64().unwrap(), "{seen:?} {close}");
                assert_eq!(close["prompt_tokens"], usage["prompt_tokens"], "{seen:?} {close}");
            }
            None => {
                assert!(seen.delivered <= metered, "delivered and not metered: {seen:?} {close}");
                let chunk = seen.largest_event.max(1);
                assert!(metered <= seen.delivered + chunk, "more than a chunk over: {seen:?} {close}");
            }
        }
    }
}

/// I3: the aggregate that a killed and restarted Redis holds is what the journal says.
async fn the_aggregate_is_the_journal(stack: &Stack) {
    let report = stack.run(&["audit"]).await;
    let aggregates = report["aggregates"].as_array().unwrap();
    assert!(!aggregates.is_empty(), "the aggregate was compared: {report}");
    for aggregate in aggregates {
        assert_eq!(aggregate["differences"].as_array().map(Vec::len), Some(0), "{report}");
    }
    assert_eq!(report["open_calls"].as_array().map(Vec::len), Some(0), "{report}");
}

/// I4 and I6: the ledger's lanes are the journal's sums, and the pool's revenue is their royalty to the unit.
async fn royalties_are_exact(stack: &Stack, journal: &Journal) {
    stack.run(&["window", "seal"]).await;
    stack.run(&["settle", "--once"]).await;
    let contracts = support::read_json(&stack.home().join("endpoints.json"))["contracts"].clone();
    let rpc = stack.endpoint("rpc");
    let mut expected_revenue = BTreeMap::new();
    for (model, charged) in journal.charged_by_model() {
        let cast = async |contract: &str, signature: &str| {
            support::cast(&rpc, contracts[contract].as_str().unwrap(), signature, &[&model]).await
        };
        let royalty_ppm: u128 = cast("LineageRegistry", "royaltyPpm(bytes32)(uint256)").await[0];
        let lane = cast("UsageLedger", "lane(bytes32)((uint128,uint128))").await;
        let royalty = charged / 1_000_000 * royalty_ppm / 1_000_000;
        assert_eq!(lane, [charged, royalty], "the lane of {model}");
        expected_revenue.insert(model.clone(), royalty);
        assert_eq!(
            cast("RoyaltyPool", "revenue(bytes32)(uint256)").await,
            [royalty],
            "the revenue of {model}"
        );
    }
    assert!(
        expected_revenue.values().all(|units| *units > 0),
        "calls were dear enough to show: {expected_revenue:?}"
    );
}
