//! Making, showing, changing and revoking API keys.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::account::{LimitOverrides, Limits};
use crate::answer::json;
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::keys::{Entry, KeyChange, KeyId, KeyRecord, Priority};
use crate::openai::parse;

const MAX_NAME_BYTES: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    #[serde(default)]
    name: String,
    /// Pico-dollars, as a decimal string.
    #[serde(default, deserialize_with = "crate::pico::deserialize")]
    credit_pico: u128,
    #[serde(default)]
    limits: LimitOverrides,
    #[serde(default)]
    priority: Priority,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChangedKey {
    name: Option<String>,
    /// The new running total of credit ever granted, in pico-dollars, as a decimal string.
    #[serde(deserialize_with = "crate::pico::option::deserialize")]
    credit_pico: Option<u128>,
    priority: Option<Priority>,
}

/// A change of limits. A field that is left out stays; `null` makes it follow the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChangedLimits {
    #[serde(deserialize_with = "present")]
    requests_per_minute: Option<Option<u32>>,
    #[serde(deserialize_with = "present")]
    tokens_per_minute: Option<Option<u64>>,
    #[serde(deserialize_with = "present")]
    concurrency: Option<Option<u32>>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[derive(Serialize)]
struct KeyView {
    id: String,
    name: String,
    tail: String,
    created_ms: u64,
    revoked_ms: Option<u64>,
    priority: Priority,
    credit_pico: String,
    used_pico: String,
    held_pico: String,
    remaining_pico: String,
    calls_in_flight: u32,
    /// In force now.
    limits: Limits,
    /// Of the key's own.
    own_limits: LimitOverrides,
}

#[derive(Serialize)]
struct CreatedKey {
    /// Shown here and never again.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// `GET /admin/keys`.
pub(super) fn list(gateway: &Gateway) -> Response<Body> {
    let keys: Vec<_> = gateway.keys.all().iter().map(|entry| view(gateway, entry)).collect();
    json(StatusCode::OK, &serde_json::json!({ "object": "list", "data": keys }))
}

/// `POST /admin/keys`.
pub(super) async fn create(gateway: &Arc<Gateway>, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let new: NewKey = parse(body)?;
    check_name(&new.name)?;
    check_limits(&new.limits)?;
    let record = KeyRecord {
        limits: new.limits,
        priority: new.priority,
        ..KeyRecord::new(&new.name, gateway.clock.unix_ms(), new.credit_pico)
    };
    let keys = gateway.keys.clone();
    let (secret, id) = off_thread(move || keys.create(record)).await?;
    let entry = gateway.keys.get(&id).ok_or_else(|| ApiError::internal("a new key is not there"))?;
    let created = CreatedKey { key: secret.reveal().to_owned(), view: view(gateway, &entry) };
    Ok(json(StatusCode::CREATED, &created))
}

/// `GET`, `PATCH`, `DELETE /admin/keys/{id}`.
pub(super) async fn one(
    gateway: &Arc<Gateway>,
    method: &Method,
    id: &str,
    body: &[u8],
) -> Result<Response<Body>, ApiError> {
    let entry = find(gateway, id)?;
    let change = match method.as_str() {
        "GET" => return Ok(json(StatusCode::OK, &view(gateway, &entry))),
        "DELETE" => KeyChange { revoked_ms: Some(gateway.clock.unix_ms()), ..KeyChange::default() },
        "PATCH" => {
            let changed: ChangedKey = parse(body)?;
            if let Some(name) = &changed.name {
                check_name(name)?;
            }
            KeyChange {
                name: changed.name,
                credit_pico: changed.credit_pico,
                priority: changed.priority,
                ..KeyChange::default()
            }
        }
        _ => return Err(not_allowed(method, "GET, PATCH, DELETE")),
    };
    apply(gateway, entry.id, change).await
}

/// `GET`, `PATCH /admin/keys/{id}/limits`.
pub(super) async fn limits(
    gateway: &Arc<Gateway>,
    method: &Method,
    id: &str,
    body: &[u8],
) -> Result<Response<Body>, ApiError> {
    let entry = find(gateway, id)?;
    match method.as_str() {
        "GET" => Ok(json(StatusCode::OK, &view(gateway, &entry).limits)),
        "PATCH" => {
            let changed: ChangedLimits = parse(body)?;
            let own = entry.record.load().limits;
            let limits = LimitOverrides {
                requests_per_minute: changed.requests_per_minute.unwrap_or(own.requests_per_minute),
                tokens_per_minute: changed.tokens_per_minute.unwrap_or(own.tokens_per_minute),
                concurrency: changed.concurrency.unwrap_or(own.concurrency),
            };
            check_limits(&limits)?;
            apply(gateway, entry.id, KeyChange { limits: Some(limits), ..KeyChange::default() }).await
        }
        _ => Err(not_allowed(method, "GET, PATCH")),
    }
}

async fn apply(gateway: &Arc<Gateway>, id: KeyId, change: KeyChange) -> Result<Response<Body>, ApiError> {
    let (keys, now_ms) = (gateway.keys.clone(), gateway.clock.monotonic_ms());
    off_thread(move || keys.change(&id, &change, now_ms)).await?;
    let entry = find(gateway, &id.to_string())?;
    Ok(json(StatusCode::OK, &view(gateway, &entry)))
}

/// Runs what waits for the disk off the async threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::GatewayError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

fn find(gateway: &Gateway, id: &str) -> Result<Arc<Entry>, ApiError> {
    let unknown = || ApiError::NotFound { what: "key", id: id.chars().take(64).collect() };
    let key: KeyId = id.parse().map_err(|_| unknown())?;
    gateway.keys.get(&key).ok_or_else(unknown)
}

fn view(gateway: &Gateway, entry: &Entry) -> KeyView {
    let record = entry.record.load();
    let used = gateway.meter.payer_total(entry.payer()).pico();
    let (held, calls_in_flight) = entry.account.in_use(gateway.clock.monotonic_ms());
    KeyView {
        id: entry.id.to_string(),
        name: record.name.clone(),
        tail: record.tail.clone(),
        created_ms: record.created_ms,
        revoked_ms: record.revoked_ms,
        priority: record.priority,
        credit_pico: record.credit_pico.to_string(),
        used_pico: used.to_string(),
        held_pico: held.to_string(),
        remaining_pico: record.credit_pico.saturating_sub(used).saturating_sub(held).to_string(),
        calls_in_flight,
        limits: record.limits.over(gateway.keys.defaults()),
        own_limits: record.limits,
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.len() > MAX_NAME_BYTES {
        let message = format!("is {} bytes long; at most {MAX_NAME_BYTES} are taken", name.len());
        return Err(ApiError::invalid("name", message));
    }
    Ok(())
}

fn check_limits(limits: &LimitOverrides) -> Result<(), ApiError> {
    match limits.zero_field() {
        Some(field) => Err(ApiError::invalid(field, "is 0; give at least 1, or revoke the key")),
        None => Ok(()),
    }
}

fn not_allowed(method: &Method, allowed: &'static str) -> ApiError {
    ApiError::MethodNotAllowed { method: method.to_string(), path: "/admin/keys/{id}".to_owned(), allowed }
}
