//! What a client gets when all goes well, byte for byte.

use crate::support::{MODEL, Plan, Stand, TRACK, chat_body, send};
use serde_json::Value;

/// Replaces what differs from run to run by its name, after checking its form.
fn settled(mut value: Value) -> Value {
    let hex = |value: &Value, bytes: usize| {
        let text = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
        let digits = text.trim_start_matches("0x");
        assert_eq!(
            (digits.len(), digits.bytes().all(|byte| byte.is_ascii_hexdigit())),
            (bytes * 2, true),
            "{text}"
        );
    };
    for (path, bytes) in
        [("payer_commit", 32), ("salt", 32), ("journal", 32), ("signature", 65), ("call", 16)]
    {
        for base in ["/usage/dividend/", "/dividend/", "/receipt/"] {
            if let Some(field) = value.pointer_mut(&format!("{base}{path}")) {
                hex(field, bytes);
                *field = Value::from(format!("[{path}]"));
            }
        }
    }
    for field in ["id", "created", "closed_at_ms"] {
        if let Some(field_value) = value.get_mut(field) {
            *field_value = Value::from(format!("[{field}]"));
        }
    }
    value
}

#[tokio::test]
async fn a_chat_answer_carries_usage_and_a_signed_receipt() {
    let stand = Stand::start(Plan::default()).await;
    let reply = stand.chat(r#","max_tokens":8"#).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let body = reply.json();
    assert_eq!(body["usage"]["dividend"]["call"], reply.header("dividend-receipt"));
    assert_eq!(body["id"], format!("chatcmpl-{}", reply.header("dividend-receipt")));
    assert_eq!(reply.header("x-request-id").len(), 32);
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), "599");
    assert_eq!(reply.header("x-ratelimit-limit-tokens"), "200000");
    insta::assert_json_snapshot!(settled(body));
    stand.finish().await;
}

#[tokio::test]
async fn a_stream_is_role_text_finish_usage_done() {
    let stand = Stand::start(Plan::default()).await;
    let reply = stand.chat(r#","max_tokens":2,"stream":true,"stream_options":{"include_usage":true}"#).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/event-stream; charset=utf-8"));
    let events: Vec<_> = reply.events().into_iter().map(settled).collect();
    insta::assert_json_snapshot!(events);
    let plain = stand.chat(r#","max_tokens":2,"stream":true"#).await.events();
    let receipts: Vec<_> = plain.iter().filter(|event| event.get("dividend").is_some()).collect();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0]["choices"][0]["finish_reason"], "length");
    assert!(plain.iter().all(|event| event.get("usage").is_none()));
    stand.finish().await;
}

#[tokio::test]
async fn text_completions_answer_in_their_own_shape() {
    let stand = Stand::start(Plan::default()).await;
    let reply = stand.post("/v1/completions", &format!(r#"{{"model":"{TRACK}","prompt":"1234"}}"#)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    insta::assert_json_snapshot!(settled(reply.json()));
    let body = format!(r#"{{"model":"{TRACK}","prompt":"1234","stream":true}}"#);
    let events = stand.post("/v1/completions", &body).await.events();
    assert_eq!(
        events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap_or("")).collect::<String>(),
        " w w w w"
    );
    stand.finish().await;
}

#[tokio::test]
async fn models_have_prices_not_below_their_minimum() {
    let stand = Stand::start(Plan::default()).await;
    let list = stand.get("/v1/models").await.json();
    let names: Vec<_> =
        list["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(names.len(), 3, "the track and the two nodes that are served: {names:?}");
    insta::assert_json_snapshot!(stand.get(&format!("/v1/models/{TRACK}")).await.json());
    assert_eq!(send(stand.api, "GET", "/v1/models", &[], "").await.status, 200, "prices are public");
    let wrong = [("authorization", "Bearer sk-dvd-wrong")];
    assert_eq!(send(stand.api, "GET", "/v1/models", &wrong, "").await.status, 401);
    let first = stand.get(&format!("/v1/models/{TRACK}%401")).await.json();
    assert_eq!(first["pricing"]["input_pico_per_token"], "10", "the older champion has no minimum");
    let node = stand.get(&format!("/v1/models/{MODEL}")).await.json();
    assert_eq!(node["pricing"]["input_pico_per_token"], "20", "the minimum is above the operator's price");
    stand.finish().await;
}

#[tokio::test]
async fn credit_falls_by_exactly_the_charge() {
    let stand = Stand::start(Plan { credit_pico: 10_000, ..Plan::default() }).await;
    let receipt = stand.chat(r#","max_tokens":3"#).await.json()["usage"]["dividend"].clone();
    // Two prompt tokens at the model's minimum of 20, three tokens at 100.
    assert_eq!(receipt["charge_pico"], "340");
    let credits = stand.get("/v1/credits").await.json();
    assert_eq!((&credits["used_pico"], &credits["remaining_pico"]), (&"340".into(), &"9660".into()));
    assert_eq!((&credits["held_pico"], &credits["calls_in_flight"]), (&"0".into(), &0.into()));
    stand.finish().await;
}

#[tokio::test]
async fn a_receipt_is_pending_until_the_seal_and_proven_after_it() {
    let stand = Stand::start(Plan::default()).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(stand.chat("").await.header("dividend-receipt").to_owned());
    }
    let path = format!("/v1/receipts/{}", calls[1]);
    let pending = send(stand.api, "GET", &path, &[], "").await.json();
    let own = stand.get(&path).await.json();
    assert!(own["receipt"]["salt"].is_string(), "the payer can show that it is his: {own}");
    assert_eq!(pending["receipt"].get("salt"), None, "and nobody else: {pending}");
    assert_eq!((&pending["status"], pending.get("proof")), (&"pending".into(), None));
    let seal = stand.operate("POST", "/admin/windows/seal", "").await.json();
    assert_eq!(seal["window"], 0);
    let sealed = send(stand.api, "GET", &path, &[], "").await.json();
    assert_eq!(sealed["status"], "sealed");
    assert_eq!(sealed["receipt"], pending["receipt"], "made anew, it is the same receipt");
    let proof = &sealed["proof"];
    assert_eq!((&proof["index"], &proof["leaves"]), (&1.into(), &3.into()));
    assert_eq!(proof["root"]["hash"], seal["models"][0]["prepaid_root"], "{seal}");
    let id = "0".repeat(32);
    let missing = send(stand.api, "GET", &format!("/v1/receipts/{id}"), &[], "").await;
    assert_eq!((missing.status, missing.code()), (404, "not_found".to_owned()));
    stand.finish().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call_and_a_given_request_id_comes_back() {
    let stand = Stand::start(Plan::default()).await;
    let mut wire = crate::support::Wire::connect(stand.api).await;
    let bearer = stand.bearer();
    for id in ["first-id", "second-id"] {
        let headers = [("authorization", bearer.as_str()), ("x-request-id", id)];
        wire.write(&crate::support::request("POST", "/v1/chat/completions", &headers, &chat_body(""))).await;
        wire.until(&format!("x-request-id: {id}")).await;
    }
    drop(wire);
    stand.finish().await;
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let stand = Stand::start(Plan::default()).await;
    assert_eq!(stand.chat("").await.status, 200);
    for address in [stand.api, stand.admin] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(send(address, "GET", path, &[], "").await.status, 200);
        }
    }
    let metrics = send(stand.admin, "GET", "/metrics", &[], "").await.body;
    for line in [
        r#"dividend_requests_total{route="/v1/chat/completions",status="200"} 1"#,
        r#"dividend_calls_total{outcome="finished"} 1"#,
        r#"dividend_tokens_total{direction="out"} 4"#,
        "dividend_snapshot_block 42",
        "dividend_journal_failing 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(send(stand.api, "GET", "/metrics", &[], "").await.status, 405, "metrics are the operator's");
    stand.finish().await;
}
