//! What can be asked for, and what it costs.

use std::sync::Arc;

use dividend_registry::{ModelView, Snapshot};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::admission::{Authenticated, Target, price};
use crate::answer::json;
use crate::backend::Task;
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;

/// One entry of `/v1/models`: OpenAI's four fields, and ours.
#[derive(Debug, Serialize)]
pub(crate) struct ModelEntry {
    /// The name to ask for: a track, `track@n`, or a node id.
    pub id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    /// The node that serves under this name now.
    pub model: String,
    /// The track whose champion it is, if it is one.
    pub track: Option<String>,
    pub pricing: Pricing,
    pub royalty_ppm: u32,
    pub context_length: u32,
    pub backend: &'static str,
    pub task: Task,
    pub healthy: bool,
}

/// Pico-dollars per token (1 $ per million tokens is 1000000), as decimal strings.
#[derive(Debug, Serialize)]
pub(crate) struct Pricing {
    input_pico_per_token: String,
    output_pico_per_token: String,
    /// Since when, in unix seconds; 0 for the default price.
    version: u64,
}

/// `GET /v1/models`: every name that is served here, tracks first.
pub(super) fn list(gateway: &Arc<Gateway>, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    known_or_nobody(gateway, headers)?;
    let data = priced_models(gateway);
    Ok(json(StatusCode::OK, &serde_json::json!({ "object": "list", "data": data })))
}

/// `GET /v1/models/{id}`.
pub(super) fn show(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    name: &str,
) -> Result<Response<Body>, ApiError> {
    known_or_nobody(gateway, headers)?;
    let settings = gateway.settings.load();
    let target = Target::find(gateway, &settings, name)?;
    Ok(json(StatusCode::OK, &entry(gateway, &target.snapshot, name, &target.model)?))
}

/// Prices are public, but a key that is wrong is told so: clients check their keys by listing models.
fn known_or_nobody(gateway: &Arc<Gateway>, headers: &HeaderMap) -> Result<(), ApiError> {
    match Authenticated::of(gateway, headers) {
        Ok(_) | Err(ApiError::MissingKey) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Every name that is served here, tracks first, each group in order.
pub(crate) fn priced_models(gateway: &Gateway) -> Vec<ModelEntry> {
    let snapshot = gateway.snapshot();
    let mut tracks: Vec<_> = snapshot
        .tracks()
        .filter_map(|track| {
            let model = snapshot.model(track.champion()?)?;
            entry(gateway, &snapshot, &track.name, model).ok()
        })
        .collect();
    tracks.sort_by(|one, other| one.id.cmp(&other.id));
    let nodes = gateway.backends.models().into_iter().filter_map(|id| {
        let model = snapshot.model(id)?;
        entry(gateway, &snapshot, &id.to_string(), model).ok()
    });
    tracks.extend(nodes);
    tracks
}

fn entry(
    gateway: &Gateway,
    snapshot: &Snapshot,
    name: &str,
    model: &ModelView,
) -> Result<ModelEntry, ApiError> {
    let unknown = || ApiError::UnknownModel { model: name.to_owned() };
    let served = gateway.backends.get(&model.id).ok_or_else(unknown)?;
    let asked_track = name.split('@').next().filter(|track| snapshot.track(track).is_some());
    let price = price(&gateway.settings.load(), model, asked_track, gateway.clock.unix_ms() / 1_000);
    let track = model.track.and_then(|track| snapshot.track_by_id(track));
    Ok(ModelEntry {
        id: name.to_owned(),
        object: "model",
        // Blocks have numbers, not dates, in the snapshot: what is there is that of the newest block.
        created: snapshot.block().timestamp_s,
        owned_by: model.owner.to_string(),
        model: model.id.to_string(),
        track: track.map(|track| track.name.clone()),
        pricing: Pricing {
            input_pico_per_token: price.in_pico_per_token.to_string(),
            output_pico_per_token: price.out_pico_per_token.to_string(),
            version: price.version,
        },
        royalty_ppm: model.royalty_ppm,
        context_length: served.backend.context_length(),
        backend: served.backend.kind(),
        task: served.backend.task(),
        healthy: served.backend.is_healthy(),
    })
}
