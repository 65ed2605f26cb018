//! Whether the process lives, and whether it should be sent calls.

use http::{Response, StatusCode};
use serde::Serialize;

use crate::answer::json;
use crate::body::Body;
use crate::gateway::Gateway;

/// Why a gateway is not ready; empty if it is.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    pub ready: bool,
    pub problems: Vec<String>,
}

/// 200 as long as the process answers at all.
pub(super) fn alive() -> Response<Body> {
    json(StatusCode::OK, &serde_json::json!({ "status": "ok" }))
}

/// 200 if a call would be served now, else 503 with every reason why not.
pub(super) fn ready(gateway: &Gateway) -> Response<Body> {
    let readiness = readiness(gateway);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

/// Looks at everything that a call needs.
pub(crate) fn readiness(gateway: &Gateway) -> Readiness {
    let mut problems = Vec::new();
    if gateway.is_draining() {
        problems.push("draining".to_owned());
    }
    if let Err(stale) = gateway.fresh_snapshot() {
        problems.push(stale.to_string());
    }
    if let Some(problem) = gateway.meter.health().append_error {
        problems.push(format!("the journal takes no records: {problem}"));
    }
    let served = gateway.backends.all();
    if served.is_empty() {
        problems.push("no model is loaded".to_owned());
    }
    for (model, served) in served {
        if !served.backend.is_healthy() {
            problems.push(format!("the backend of {model} has failed"));
        }
    }
    Readiness { ready: problems.is_empty(), problems }
}
