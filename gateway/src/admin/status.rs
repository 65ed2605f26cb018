//! What an operator and the dashboard ask the running gateway.

use std::time::Instant;

use http::{Response, StatusCode};

use crate::answer::json;
use crate::body::Body;
use crate::gateway::Gateway;
use crate::receipt::prefixed;
use crate::routes::{priced_models, readiness};

/// `GET /admin/status`.
pub(super) fn status(gateway: &Gateway) -> Response<Body> {
    let health = gateway.meter.health();
    let snapshot = gateway.snapshot();
    let queues: Vec<_> = gateway
        .backends
        .all()
        .into_iter()
        .map(|(model, served)| {
            serde_json::json!({
                "model": model.to_string(),
                "backend": served.backend.kind(),
                "healthy": served.backend.is_healthy(),
                "waiting": served.queue.waiting(),
            })
        })
        .collect();
    let age_ms = u64::try_from(snapshot.age(Instant::now()).as_millis()).unwrap_or(u64::MAX);
    json(
        StatusCode::OK,
        &serde_json::json!({
            "readiness": readiness(gateway),
            "draining": gateway.is_draining(),
            "requests_in_flight": gateway.in_flight(),
            "keys": gateway.keys.count(),
            "operator": gateway.operator.to_string(),
            "snapshot": { "block": snapshot.block().number, "finalized": snapshot.finalized(), "age_ms": age_ms },
            "journal": {
                "id": prefixed(gateway.meter.journal_id().as_slice()),
                "window": health.window,
                "bytes": health.journal_bytes,
                "durable_bytes": health.durable_bytes,
                "calls_in_flight": health.in_flight,
                "unclosed": health.unclosed,
                "append_error": health.append_error,
                "fold_lag_bytes": health.fold_lag_bytes,
                "folded_at_ms": health.folded_at_ms,
                "fold_error": health.fold_error,
            },
            "queues": queues,
            "models": priced_models(gateway),
        }),
    )
}

/// `GET /admin/totals`: what was metered, from the journal itself and not from the aggregate.
pub(super) fn totals(gateway: &Gateway) -> Response<Body> {
    let (window, rows) = gateway.meter.window_totals();
    let models: Vec<_> = gateway
        .meter
        .accrued_by_model()
        .into_iter()
        .map(|(model, totals)| {
            serde_json::json!({
                "model": model.to_string(),
                "calls": totals.calls,
                "prompt_tokens": totals.prompt_tokens,
                "completion_tokens": totals.completion_tokens,
                "charge_pico": totals.charge.pico().to_string(),
            })
        })
        .collect();
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(payer, model, totals)| {
            serde_json::json!({
                "payer": payer.to_string(),
                "model": model.to_string(),
                "calls": totals.calls,
                "prompt_tokens": totals.prompt_tokens,
                "completion_tokens": totals.completion_tokens,
                "charge_pico": totals.charge.pico().to_string(),
            })
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "window": window, "rows": rows, "models": models }))
}
