//! The operator's own API, on a listener of its own behind a bearer token. Metrics and health need no token there.

mod keys;
mod status;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use dividend_meter::Seal;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::answer::{answer, json};
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::layers::{BodyError, read_all};
use crate::receipt::prefixed;
use crate::routes;

/// Answers a request of the admin listener.
pub(crate) async fn route<B>(gateway: Arc<Gateway>, request: Request<B>) -> Result<Response<Body>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send,
{
    let (head, body) = request.into_parts();
    let answered = match head.uri.path() {
        "/metrics" => metrics(&gateway),
        "/healthz" | "/readyz" => routes::open(&gateway, head.uri.path()),
        _ => match authorise(&gateway, &head.headers) {
            Ok(()) => authorised(&gateway, &head.method, head.uri.path(), body).await,
            Err(error) => Err(error),
        },
    };
    Ok(answered.unwrap_or_else(|error| answer(&error)))
}

/// Everything behind the token:
///
/// | | |
/// |---|---|
/// | `GET /admin/status` | readiness, journal, snapshot, models with queues |
/// | `GET /admin/totals` | accrued by model, the open window by payer and model |
/// | `GET /admin/keys`, `POST /admin/keys` | list; make one, its secret is in this answer only |
/// | `GET`, `PATCH`, `DELETE /admin/keys/{id}` | show; change name, credit, priority; revoke |
/// | `GET`, `PATCH /admin/keys/{id}/limits` | limits of the key's own, `null` to follow the defaults |
/// | `POST /admin/windows/seal` | seal the open window now |
/// | `POST /admin/drain` | refuse new calls from now on |
async fn authorised<B>(
    gateway: &Arc<Gateway>,
    method: &Method,
    path: &str,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send,
{
    let body = read_all(body).await?;
    match (method.as_str(), path) {
        ("GET", "/admin/status") => Ok(status::status(gateway)),
        ("GET", "/admin/totals") => Ok(status::totals(gateway)),
        ("GET", "/admin/keys") => Ok(keys::list(gateway)),
        ("POST", "/admin/keys") => keys::create(gateway, &body).await,
        ("POST", "/admin/windows/seal") => seal(gateway).await,
        ("POST", "/admin/drain") => {
            gateway.drain();
            Ok(json(
                StatusCode::OK,
                &serde_json::json!({ "draining": true, "in_flight": gateway.in_flight() }),
            ))
        }
        (verb, path) => {
            match path.strip_prefix("/admin/keys/").map(|rest| (verb, rest.split_once('/'), rest)) {
                Some((_, Some((id, "limits")), _)) => keys::limits(gateway, method, id, &body).await,
                Some((_, None, id)) => keys::one(gateway, method, id, &body).await,
                _ => Err(ApiError::UnknownRoute {
                    method: verb.to_owned(),
                    path: path.chars().take(200).collect(),
                }),
            }
        }
    }
}

fn authorise(gateway: &Gateway, headers: &HeaderMap) -> Result<(), ApiError> {
    let header =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(ApiError::WrongToken)?;
    let token = header.strip_prefix("Bearer ").ok_or(ApiError::WrongToken)?;
    let same: bool = token.as_bytes().ct_eq(gateway.admin_token.as_bytes()).into();
    if same && !gateway.admin_token.is_empty() { Ok(()) } else { Err(ApiError::WrongToken) }
}

fn metrics(gateway: &Gateway) -> Result<Response<Body>, ApiError> {
    let text = gateway.metrics.scrape(gateway).map_err(ApiError::internal)?;
    let mut response = Response::new(Body::full(text));
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    Ok(response)
}

/// `POST /admin/windows/seal`: the sealed window, all `null` and empty if no call was closed in it. The whole seal is in
/// `serve/seals` of the home.
async fn seal(gateway: &Arc<Gateway>) -> Result<Response<Body>, ApiError> {
    let meter = gateway.meter.clone();
    let sealing = tokio::task::spawn_blocking(move || meter.seal_window());
    let seal = sealing.await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    Ok(json(StatusCode::OK, &seal.map(SealView::from).unwrap_or_default()))
}

#[derive(Default, Serialize)]
struct SealView {
    window: Option<u64>,
    digest: Option<String>,
    models: Vec<ModelSealView>,
}

/// A model's part of a seal; the two roots are what receipts are proved against.
#[derive(Serialize)]
struct ModelSealView {
    model: String,
    calls: u64,
    prepaid_root: String,
    #[serde(with = "crate::pico")]
    prepaid_sum_pico: u128,
    channel_root: String,
    #[serde(with = "crate::pico")]
    channel_sum_pico: u128,
}

impl From<Seal> for SealView {
    fn from(seal: Seal) -> Self {
        let models = seal.models.into_iter().map(|model| ModelSealView {
            model: model.model.to_string(),
            calls: model.calls,
            prepaid_root: prefixed(model.prepaid_root.as_slice()),
            prepaid_sum_pico: model.prepaid_sum_pico,
            channel_root: prefixed(model.channel_root.as_slice()),
            channel_sum_pico: model.channel_sum_pico,
        });
        let digest = prefixed(seal.digest.as_slice());
        Self { window: Some(seal.window), digest: Some(digest), models: models.collect() }
    }
}
