//! The operator's API: keys, limits that change while calls run, seals, the drain, and settings read again.

use std::sync::Arc;

use crate::support::{Plan, Stand, Wire, chat_body, request, send};
use dividend_gateway::{InstantBackend, Settings, watch_settings};
use tokio::sync::Semaphore;

#[tokio::test]
async fn the_token_is_needed_for_everything_but_health_and_metrics() {
    let stand = Stand::start(Plan::default()).await;
    for header in [None, Some("Bearer wrong"), Some("Bearer "), Some(crate::support::TOKEN)] {
        let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
        for (method, path) in
            [("GET", "/admin/keys"), ("POST", "/admin/drain"), ("GET", "/v1/models"), ("GET", "/x")]
        {
            let reply = send(stand.admin, method, path, &headers, "").await;
            assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_admin_token"), "{path}");
        }
    }
    assert!(!stand.gateway.is_draining());
    assert_eq!(send(stand.admin, "GET", "/metrics", &[], "").await.status, 200);
    assert_eq!(stand.operate("GET", "/admin/nothing", "").await.status, 404);
    stand.finish().await;
}

#[tokio::test]
async fn a_key_lives_from_creation_to_revocation() {
    let stand = Stand::start(Plan::default()).await;
    let body = r#"{"name":"app","credit_pico":"1000","limits":{"concurrency":3},"priority":"high"}"#;
    let made = stand.operate("POST", "/admin/keys", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = made.json();
    let (secret, id) = (made["key"].as_str().expect("shown"), made["id"].as_str().expect("an id"));
    let bearer = format!("Bearer {secret}");
    let call = async || {
        let headers = [("authorization", bearer.as_str())];
        send(stand.api, "POST", "/v1/chat/completions", &headers, &chat_body(r#","max_tokens":4"#)).await
    };
    assert_eq!(call().await.status, 200);
    let path = format!("/admin/keys/{id}");
    let shown = stand.operate("GET", &path, "").await;
    assert!(!shown.body.contains(secret), "the secret is shown once");
    let shown = shown.json();
    assert_eq!((&shown["used_pico"], &shown["remaining_pico"]), (&"440".into(), &"560".into()));
    assert_eq!(
        (&shown["limits"]["concurrency"], &shown["limits"]["requests_per_minute"]),
        (&3.into(), &600.into())
    );
    for _ in 0..2 {
        // Credit is a running total: sending it twice grants it once.
        let changed = stand.operate("PATCH", &path, r#"{"credit_pico":"2000"}"#).await.json();
        assert_eq!(changed["remaining_pico"], "1560");
    }
    assert_eq!(
        stand.operate("GET", "/admin/keys", "").await.json()["data"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(stand.operate("DELETE", &path, "").await.status, 200);
    assert_eq!(call().await.status, 401);
    for (method, path, body, status) in [
        ("POST", "/admin/keys".to_owned(), r#"{"credit_pico":-5}"#, 400),
        ("POST", "/admin/keys".to_owned(), r#"{"credit_pico":"-5"}"#, 400),
        ("POST", "/admin/keys".to_owned(), r#"{"credit":"5"}"#, 400),
        ("PATCH", format!("{path}/limits"), r#"{"concurrency":0}"#, 400),
        ("GET", format!("/admin/keys/{}", "0".repeat(64)), "", 404),
        ("PUT", path.clone(), "{}", 405),
    ] {
        let reply = stand.operate(method, &path, body).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.body);
        reply.code();
    }
    stand.finish().await;
}

#[tokio::test]
async fn limits_change_while_calls_run_and_usage_is_kept() {
    let gate = Arc::new(Semaphore::new(0));
    let backend = InstantBackend::new(2, 64).gated(gate.clone());
    // Two a minute: what is used does not come back while the test runs.
    let settings = |settings: &mut Settings| settings.limits.requests_per_minute = 2;
    let stand = Stand::start(Plan { backend, settings, ..Plan::default() }).await;
    let mut wire = Wire::connect(stand.api).await;
    let bearer = stand.bearer();
    let stream = chat_body(r#","stream":true,"max_tokens":2"#);
    wire.write(&request("POST", "/v1/chat/completions", &[("authorization", &bearer)], &stream)).await;
    wire.until("assistant").await;
    let path = format!("/admin/keys/{}/limits", stand.key_id);
    let changed = stand.operate("PATCH", &path, r#"{"concurrency":1,"requests_per_minute":3}"#).await.json();
    assert_eq!((&changed["limits"]["concurrency"], &changed["calls_in_flight"]), (&1.into(), &1.into()));
    let refused = stand.chat("").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "concurrency_limit_exceeded"));
    let changed = stand.operate("PATCH", &path, r#"{"concurrency":null}"#).await.json();
    assert_eq!(
        (&changed["limits"]["concurrency"], &changed["limits"]["requests_per_minute"]),
        (&32.into(), &3.into())
    );
    gate.add_permits(1_000);
    wire.until("[DONE]").await;
    let second = stand.chat("").await;
    assert_eq!(
        (second.status, second.header("x-ratelimit-remaining-requests")),
        (200, "1"),
        "one was used before"
    );
    drop(wire);
    stand.finish().await;
}

#[tokio::test]
async fn status_totals_seal_and_drain() {
    let stand = Stand::start(Plan::default()).await;
    assert_eq!(stand.chat(r#","max_tokens":4"#).await.status, 200);
    let totals = stand.operate("GET", "/admin/totals", "").await.json();
    assert_eq!((&totals["window"], &totals["rows"][0]["charge_pico"]), (&0.into(), &"440".into()));
    assert_eq!(totals["rows"][0]["payer"], format!("key:0x{}", stand.key_id));
    assert_eq!(stand.operate("POST", "/admin/windows/seal", "").await.json()["window"], 0);
    assert_eq!(
        stand.operate("POST", "/admin/windows/seal", "").await.json()["window"],
        serde_json::Value::Null
    );
    let status = stand.operate("GET", "/admin/status", "").await.json();
    assert_eq!((&status["readiness"]["ready"], &status["journal"]["window"]), (&true.into(), &1.into()));
    assert_eq!(status["snapshot"]["block"], 42);
    assert_eq!(stand.operate("POST", "/admin/drain", "").await.json()["draining"], true);
    let reply = stand.chat("").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "draining"));
    assert_eq!(stand.get("/readyz").await.status, 503);
    assert_eq!(stand.get("/v1/credits").await.status, 200, "reading goes on");
    stand.finish().await;
}

#[tokio::test]
async fn a_changed_settings_file_is_in_force_without_a_restart_and_a_bad_one_is_not() {
    let stand = Stand::start(Plan::default()).await;
    let file = stand.dir.path().join("settings.toml");
    std::fs::write(&file, "").expect("written");
    watch_settings(&stand.gateway, file.clone(), |path| {
        let read = dividend_config::Settings::load(path).map_err(|error| error.to_string())?;
        Ok(Settings::from(&read))
    })
    .expect("watched");
    let price = async || {
        let model = stand.get("/v1/models/demo").await.json();
        model["pricing"]["output_pico_per_token"].as_str().expect("text").to_owned()
    };
    assert_eq!(price().await, "100");
    let priced = |version, output| {
        format!(
            "[prices.default]\nfrom_unix_s = {version}\ninput_pico_per_token = 1\noutput_pico_per_token = {output}\n"
        )
    };
    std::fs::write(&file, priced(1, 7)).expect("written");
    while price().await != "7" {
        tokio::task::yield_now().await;
    }
    std::fs::write(&file, "[prices.default]\noutput_pico_per_token = -1\n").expect("written");
    std::fs::write(&file, priced(1, 9)).expect("written");
    let other = stand.dir.path().join("settings.new");
    std::fs::write(&other, priced(2, 8)).expect("written");
    std::fs::rename(&other, &file).expect("replaced, as editors do");
    let mut seen = price().await;
    while seen != "8" {
        assert_eq!(seen, "7", "a bad file, or a price without a new version, changes nothing");
        seen = price().await;
    }
    stand.finish().await;
}
