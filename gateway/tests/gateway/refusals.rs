//! What is refused, how, and that nothing is charged for it.

use std::time::{Duration, Instant};

use crate::support::{OTHER_MODEL, Plan, Stand, TRACK, chat_body, request, send};
use dividend_gateway::InstantBackend;

#[tokio::test]
async fn bad_input_names_what_is_wrong_and_costs_nothing() {
    let stand = Stand::start(Plan::default()).await;
    let long = "x".repeat(64 * 4);
    let too_long = format!(r#"{{"model":"{TRACK}","messages":[{{"role":"user","content":"{long}"}}]}}"#);
    let unknown = r#"{"model":"nobody","messages":[{"role":"user","content":"hi"}]}"#.to_owned();
    let unserved = format!(r#"{{"model":"{OTHER_MODEL}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let no_such_champion = chat_body("").replace(TRACK, "demo@9");
    let table: Vec<(String, u16, &str, Option<&str>)> = vec![
        ("{".into(), 400, "malformed_json", None),
        ("[]".into(), 400, "invalid_value", None),
        (chat_body("") + "}", 400, "malformed_json", None),
        (chat_body(r#","temperature":NaN"#), 400, "malformed_json", None),
        (chat_body(r#","temperature":1e999"#), 400, "malformed_json", None),
        (chat_body(r#","temperature":-0.5"#), 400, "invalid_value", Some("temperature")),
        (chat_body(r#","temperature":2.5"#), 400, "invalid_value", Some("temperature")),
        (chat_body(r#","top_p":1.5"#), 400, "invalid_value", Some("top_p")),
        (chat_body(r#","n":0"#), 400, "invalid_value", Some("n")),
        (chat_body(r#","functions":[{"name":"f"}]"#), 400, "unsupported_parameter", Some("functions")),
        (
            chat_body(r#","response_format":{"type":"text","schema":{}}"#),
            400,
            "invalid_value",
            Some("response_format.schema"),
        ),
        (chat_body(r#","frobnicate":1"#), 400, "invalid_value", Some("frobnicate")),
        (chat_body(r#","max_tokens":63"#), 400, "context_length_exceeded", Some("messages")),
        (too_long, 400, "context_length_exceeded", Some("messages")),
        (unknown, 404, "model_not_found", Some("model")),
        (unserved, 404, "model_not_found", Some("model")),
        (no_such_champion, 404, "model_not_found", Some("model")),
    ];
    for (body, status, code, param) in table {
        let reply = stand.post("/v1/chat/completions", &body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}: {}", reply.body);
        assert_eq!(reply.json()["error"]["param"].as_str(), param, "{body}");
        assert_eq!(reply.header("x-request-id").len(), 32);
    }
    assert_eq!(stand.get("/v1/credits").await.json()["used_pico"], "0");
    assert_eq!(
        stand.meter.health().journal_bytes,
        crate::support::meter(&stand.dir.path().join("empty")).health().journal_bytes
    );
    stand.finish().await;
}

#[tokio::test]
async fn keys_and_paths() {
    let stand = Stand::start(Plan::default()).await;
    let path = "/v1/chat/completions";
    for headers in [
        vec![],
        vec![("authorization", "Bearer sk-dvd-wrong")],
        vec![("authorization", "Basic abc")],
        vec![("authorization", "Bearer")],
    ] {
        let reply = send(stand.api, "POST", path, &headers, &chat_body("")).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_api_key"), "{headers:?}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        assert!(!reply.body.contains(r#"ending in \"\""#), "{}", reply.body);
    }
    let reply = stand.get(path).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    let reply = stand.post("/v1/images", "{}").await;
    assert_eq!((reply.status, reply.code().as_str()), (404, "unknown_url"));
    stand.finish().await;
}

#[tokio::test]
async fn a_connection_outlives_a_refusal_before_the_body() {
    let stand = Stand::start(Plan::default()).await;
    let path = "/v1/chat/completions";
    let mut wire = crate::support::Wire::connect(stand.api).await;
    let large = chat_body("").replace("12345678", &"x".repeat(200_000));
    wire.write(&request("POST", path, &[("authorization", "Bearer sk-dvd-wrong")], &large)).await;
    wire.until("401 Unauthorized").await;
    let bearer = stand.bearer();
    wire.write(&request("POST", path, &[("authorization", &bearer)], &chat_body(""))).await;
    wire.until("200 OK").await;
    drop(wire);
    stand.finish().await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_by_name() {
    let stand = Stand::start(Plan::default()).await;
    let bearer = stand.bearer();
    for (encoding, status) in [("identity", 200), ("gzip", 415)] {
        let headers = [("authorization", bearer.as_str()), ("content-encoding", encoding)];
        let reply = send(stand.api, "POST", "/v1/chat/completions", &headers, &chat_body("")).await;
        assert_eq!(reply.status, status, "{encoding}: {}", reply.body);
    }
    stand.finish().await;
}

#[tokio::test]
async fn bodies_have_a_size_and_a_time() {
    let settings = |settings: &mut dividend_gateway::Settings| {
        settings.gateway.max_body_bytes = 2_048;
        settings.gateway.read_timeout_ms = 200;
    };
    let stand = Stand::start(Plan { settings, ..Plan::default() }).await;
    let big = chat_body("").replace("12345678", &"x".repeat(3_000));
    let reply = stand.post("/v1/chat/completions", &big).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "request_too_large"));

    let bearer = stand.bearer();
    let mut wire = crate::support::Wire::connect(stand.api).await;
    let whole = request("POST", "/v1/chat/completions", &[("authorization", &bearer)], &chat_body(""));
    wire.write(&whole[..whole.len() - 5]).await;
    let reply = wire.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (408, "request_timeout"));

    // A head that never ends is cut off by the connection itself.
    let mut wire = crate::support::Wire::connect(stand.api).await;
    wire.write("POST /v1/chat/completions HTTP/1.1\r\nhost:").await;
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut wire.0, &mut rest).await.expect("closed, not reset");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    stand.finish().await;
}

#[tokio::test]
async fn an_exhausted_budget_is_final() {
    // 2 prompt tokens at 20 and 4 at 100: 440 per call at most, and exactly.
    let stand = Stand::start(Plan { credit_pico: 1_000, ..Plan::default() }).await;
    let call = r#","max_tokens":4"#;
    assert_eq!((stand.chat(call).await.status, stand.chat(call).await.status), (200, 200));
    let reply = stand.chat(call).await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "insufficient_quota"));
    assert_eq!(reply.header("x-should-retry"), "false");
    assert!(reply.body.contains("120 are left"), "{}", reply.body);
    assert!(!reply.headers.contains_key("retry-after"));
    stand.finish().await;
}

#[tokio::test]
async fn limits_say_when_to_come_back() {
    let stand = Stand::start(Plan {
        settings: |settings| {
            settings.limits.requests_per_minute = 2;
            settings.limits.tokens_per_minute = 100;
        },
        ..Plan::default()
    })
    .await;
    assert_eq!(stand.chat(r#","max_tokens":4"#).await.status, 200);
    let tokens = stand.chat(r#","max_tokens":62"#).await;
    assert_eq!(tokens.status, 200, "the first call's reservation was given back: {}", tokens.body);
    let reply = stand.chat("").await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limit_exceeded"));
    let seconds: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert!(reply.header("retry-after-ms").parse::<u64>().expect("milliseconds") <= 30_000);
    assert_eq!(
        (reply.header("x-ratelimit-limit-requests"), reply.header("x-ratelimit-remaining-requests")),
        ("2", "0")
    );
    stand.finish().await;
}

#[tokio::test]
async fn a_chain_not_seen_for_too_long_stops_paid_calls() {
    let seen = Instant::now().checked_sub(Duration::from_secs(10)).expect("the machine is up for longer");
    let settings = |settings: &mut dividend_gateway::Settings| settings.max_snapshot_age_ms = 5_000;
    let stand = Stand::start(Plan { seen, settings, ..Plan::default() }).await;
    let reply = stand.chat("").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "chain_view_stale"));
    assert_eq!(reply.header("retry-after"), "10");
    let readiness = stand.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.body.contains("view of the chain"), "{}", readiness.body);
    assert_eq!(stand.get("/healthz").await.status, 200);
    stand.finish().await;
}

#[tokio::test]
async fn royalty_that_the_escrow_cannot_pay_stops_prepaid_calls() {
    let mut escrow = dividend_registry::EscrowView::default();
    escrow.owed_units.insert(crate::support::MODEL, 1);
    let stand = Stand::start(Plan { escrow, ..Plan::default() }).await;
    let reply = stand.chat("").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "escrow_short"));
    stand.finish().await;
}

#[tokio::test]
async fn a_failed_backend_is_named_and_charges_nothing() {
    let backend = InstantBackend::new(4, 64);
    let stand = Stand::start(Plan { backend: backend.clone(), ..Plan::default() }).await;
    backend.set_healthy(false);
    let reply = stand.chat("").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "model_unavailable"));
    assert_eq!(stand.get("/readyz").await.status, 503);
    backend.set_healthy(true);
    assert_eq!(stand.chat("").await.status, 200);
    stand.finish().await;
}
