//! What the caller has left.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};

use crate::admission::Authenticated;
use crate::answer::json;
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;

const PICO_PER_UNIT: u128 = 1_000_000;

/// `GET /v1/credits`: in pico-dollars, as decimal strings. What a channel has used is told to its signer only.
pub(super) fn show(gateway: &Arc<Gateway>, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let caller = Authenticated::of(gateway, headers)?;
    if !caller.is_proven() {
        return Err(ApiError::MissingKey);
    }
    let used = gateway.meter.payer_total(caller.payer()).pico();
    let (held, in_flight) = caller.account().in_use(gateway.clock.monotonic_ms());
    let (kind, total) = match (caller.key(), caller.channel()) {
        (Some(key), _) => ("key", key.record.load().credit_pico),
        (None, Some(channel)) => ("channel", channel.deposit_units.saturating_mul(PICO_PER_UNIT)),
        (None, None) => return Err(ApiError::MissingKey),
    };
    let withdrawing = caller
        .channel()
        .and_then(|channel| channel.withdrawal)
        .map_or(0, |withdrawal| withdrawal.amount_units.saturating_mul(PICO_PER_UNIT));
    let remaining = total.saturating_sub(used).saturating_sub(held).saturating_sub(withdrawing);
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({
            "object": "credits",
            "payer": kind,
            "total_pico": total.to_string(),
            "used_pico": used.to_string(),
            "held_pico": held.to_string(),
            "remaining_pico": remaining.to_string(),
            "calls_in_flight": in_flight,
        }),
    ))
}
