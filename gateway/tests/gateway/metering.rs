//! Every way in which a call can end, and what is charged then.

use std::sync::Arc;

use crate::support::{MODEL, Plan, Stand, Wire, chat_body, request};
use dividend_gateway::InstantBackend;
use dividend_meter::CloseReason;
use tokio::sync::Semaphore;

const STREAM: &str = r#","stream":true,"max_tokens":20"#;

async fn begun(stand: &Stand, extra: &str) -> Wire {
    let mut wire = Wire::connect(stand.api).await;
    let bearer = stand.bearer();
    wire.write(&request("POST", "/v1/chat/completions", &[("authorization", &bearer)], &chat_body(extra)))
        .await;
    wire
}

/// The id of a call whose answer has begun.
fn call_of(head: &str) -> dividend_meter::CallId {
    let line = head.lines().find_map(|line| line.strip_prefix("dividend-receipt: ")).expect("the header");
    line.parse().expect("an id")
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_model_thinks_is_noticed() {
    let gate = Arc::new(Semaphore::new(2));
    let backend = InstantBackend::new(20, 64).gated(gate);
    let stand = Stand::start(Plan { backend: backend.clone(), ..Plan::default() }).await;
    let mut wire = begun(&stand, STREAM).await;
    let text = wire.until("\" w\"").await;
    let call = call_of(&text);
    // The model will not say another word: only the end of the connection can end the call.
    drop(wire);
    stand.idle().await;
    assert_eq!(backend.running(), 0, "computing goes on for nobody");
    let record = stand.meter.call(call).expect("closed");
    assert_eq!(record.reason, CloseReason::Cancelled);
    let delivered = text.matches("\" w\"").count() as u32;
    assert!(delivered <= record.usage.completion_tokens && record.usage.completion_tokens <= 2, "{record:?}");
    assert_eq!(record.usage.prompt_tokens, 2);
    assert_eq!(stand.get("/v1/credits").await.json()["held_pico"], "0");
    stand.finish().await;
}

#[tokio::test]
async fn a_call_without_a_stream_is_cancelled_too() {
    let gate = Arc::new(Semaphore::new(1));
    let backend = InstantBackend::new(20, 64).gated(gate);
    let stand = Stand::start(Plan { backend: backend.clone(), ..Plan::default() }).await;
    let wire = begun(&stand, r#","max_tokens":20"#).await;
    while stand.meter.health().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    drop(wire);
    stand.idle().await;
    assert_eq!(backend.running(), 0);
    let totals = stand.meter.accrued_by_model();
    assert_eq!((totals[0].0, totals[0].1.calls), (MODEL, 1));
    stand.finish().await;
}

#[tokio::test]
async fn a_waiting_client_that_leaves_gives_up_its_place() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = InstantBackend::new(2, 64).gated(gate.clone()).with_sequences(1);
    let settings = |settings: &mut dividend_gateway::Settings| settings.gateway.queue_calls = 1;
    let stand = Stand::start(Plan { backend, settings, ..Plan::default() }).await;
    let waiting = async |count: u64| {
        while stand.operate("GET", "/admin/status", "").await.json()["queues"][1]["waiting"] != count {
            tokio::task::yield_now().await;
        }
    };
    let mut first = begun(&stand, r#","stream":true,"max_tokens":2"#).await;
    first.until("assistant").await;
    let second = begun(&stand, "").await;
    waiting(1).await;
    let full = stand.chat("").await;
    assert_eq!((full.status, full.code().as_str()), (429, "queue_full"));
    assert_eq!(full.header("retry-after"), "1");
    drop(second);
    waiting(0).await;
    gate.add_permits(100);
    assert!(first.until("[DONE]").await.contains("assistant"));
    assert_eq!(stand.meter.accrued_by_model()[0].1.calls, 1, "who never left the queue is not charged");
    drop(first);
    stand.finish().await;
}

#[tokio::test]
async fn waiting_too_long_is_a_503_with_a_time_to_come_back() {
    let backend = InstantBackend::new(2, 64).gated(Arc::new(Semaphore::new(0))).with_sequences(1);
    let settings = |settings: &mut dividend_gateway::Settings| settings.gateway.queue_wait_ms = 20;
    let stand = Stand::start(Plan { backend, settings, ..Plan::default() }).await;
    let mut first = begun(&stand, STREAM).await;
    first.until("assistant").await;
    let reply = stand.chat("").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "queue_timeout"));
    assert_eq!(reply.header("retry-after"), "2");
    drop(first);
    stand.finish().await;
}

#[tokio::test]
async fn a_model_that_fails_half_way_is_charged_up_to_there() {
    let backend = InstantBackend::new(20, 64).failing_after(3);
    let stand = Stand::start(Plan { backend, ..Plan::default() }).await;
    let whole = stand.chat(r#","max_tokens":20"#).await;
    assert_eq!((whole.status, whole.code().as_str()), (500, "generation_failed"));
    let record = stand.meter.call(whole.header("dividend-receipt").parse().expect("an id")).expect("closed");
    assert_eq!((record.reason, record.usage.completion_tokens), (CloseReason::Error, 3));
    let streamed = stand.chat(STREAM).await;
    assert_eq!(streamed.status, 200);
    let last = streamed.body.trim_end().rsplit("data: ").next().expect("an event");
    let error: serde_json::Value = serde_json::from_str(last).expect(last);
    assert_eq!(error["error"]["code"], "generation_failed");
    assert!(!streamed.body.contains("[DONE]"));
    assert_eq!(streamed.body.matches("\" w\"").count(), 3);
    stand.finish().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cut() {
    let backend = InstantBackend::new(20, 64).gated(Arc::new(Semaphore::new(1)));
    let settings = |settings: &mut dividend_gateway::Settings| settings.gateway.request_timeout_ms = 50;
    let stand = Stand::start(Plan { backend, settings, ..Plan::default() }).await;
    let reply = stand.chat(r#","max_tokens":20"#).await;
    assert_eq!((reply.status, reply.code().as_str()), (504, "call_timeout"));
    let record = stand.meter.call(reply.header("dividend-receipt").parse().expect("an id")).expect("closed");
    assert_eq!(record.usage.completion_tokens, 1);
    stand.finish().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let tokens = 400_000;
    let backend = InstantBackend::new(tokens, 1_000_000);
    let stand = Stand::start(Plan {
        backend,
        settings: |settings| {
            settings.limits.tokens_per_minute = 10_000_000;
            settings.gateway.read_timeout_ms = 300;
        },
        ..Plan::default()
    })
    .await;
    // Tens of megabytes of events, none of which is read: more than both sockets hold.
    let mut wire = begun(&stand, r#","stream":true,"max_tokens":400000"#).await;
    let call = call_of(&wire.until("\" w\"").await);
    stand.idle().await;
    let record = stand.meter.call(call).expect("closed");
    assert_eq!(record.reason, CloseReason::Cancelled);
    assert!(record.usage.completion_tokens < tokens, "{record:?}");
    drop(wire);
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_never_spend_more_than_the_credit() {
    // Each call holds 2·20 + 8·100 = 840 and costs 440; 5,000 hold at most five at once.
    let settings = |settings: &mut dividend_gateway::Settings| settings.limits.concurrency = 64;
    let stand = Arc::new(Stand::start(Plan { credit_pico: 5_000, settings, ..Plan::default() }).await);
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let stand = stand.clone();
            tokio::spawn(async move { stand.chat(r#","max_tokens":8"#).await.status })
        })
        .collect();
    let mut served = 0;
    for call in calls {
        match call.await.expect("no panic") {
            200 => served += 1,
            status => assert_eq!(status, 429),
        }
    }
    let used: u128 =
        stand.get("/v1/credits").await.json()["used_pico"].as_str().expect("text").parse().expect("digits");
    assert_eq!(used, 440 * served);
    assert!((1..=10).contains(&served) && used <= 5_000, "{served} calls, {used} pico-dollars");
    Arc::into_inner(stand).expect("the last one").finish().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_refuses_the_rest() {
    let gate = Arc::new(Semaphore::new(1));
    let stand =
        Stand::start(Plan { backend: InstantBackend::new(3, 64).gated(gate.clone()), ..Plan::default() })
            .await;
    let mut wire = begun(&stand, STREAM).await;
    wire.until("\" w\"").await;
    // A connection that was open before still gets an answer.
    let mut late = Wire::connect(stand.api).await;
    late.write("POST /v1/chat/completions HTTP/1.1\r\n").await;
    assert_eq!(stand.get("/healthz").await.status, 200);
    let (api, bearer) = (stand.api, stand.bearer());
    let (serving, meter, _dir) = stand.stop();
    while tokio::net::TcpStream::connect(api).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let rest = request("POST", "/v1/chat/completions", &[("authorization", &bearer)], &chat_body(""));
    late.write(rest.split_once("\r\n").expect("lines").1).await;
    let refused = late.reply().await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "draining"));
    gate.add_permits(10);
    assert!(wire.until("[DONE]").await.contains("\"finish_reason\":\"stop\""));
    serving.await.expect("no panic").expect("a clean end");
    assert_eq!((meter.health().in_flight, meter.accrued_by_model()[0].1.calls), (0, 1));
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let backend = InstantBackend::new(3, 64).gated(Arc::new(Semaphore::new(1)));
    let settings = |settings: &mut dividend_gateway::Settings| settings.gateway.drain_ms = 50;
    let stand = Stand::start(Plan { backend, settings, ..Plan::default() }).await;
    let mut wire = begun(&stand, STREAM).await;
    let call = call_of(&wire.until("\" w\"").await);
    let (serving, meter, _dir) = stand.stop();
    serving.await.expect("no panic").expect("a clean end");
    assert_eq!(meter.call(call).expect("closed").reason, CloseReason::Cancelled);
}
