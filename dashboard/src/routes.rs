//! Paths, headers and status codes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use dividend_chain::Address;
use dividend_registry::ModelId;
use serde::{Deserialize, Serialize};

use crate::figures::{self, Names};
use crate::format::clean;
use crate::moment::{Moment, Source};
use crate::pages::{ContributorPage, ModelTemplate, OverviewPage, ProblemPage};

/// Nothing from elsewhere, nothing inline, no frame around us: foreign text that slipped through escaping could still do
/// nothing.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/live.js");
const ICON: &str = include_str!("../assets/icon.svg");

type Shared = State<Arc<dyn Source>>;

/// Pages, assets and the read API of a source. Paths that it does not know are 404s of its own, so routes of others are
/// to be merged before it is served.
pub fn router(source: impl Source) -> Router {
    let source: Arc<dyn Source> = Arc::new(source);
    Router::new()
        .route("/", get(overview))
        .route("/contributors", get(find_contributor))
        .route("/contributors/{address}", get(contributor))
        .route("/models/{id}", get(model))
        .route("/api/overview", get(api_overview))
        .route("/api/models", get(api_models))
        .route("/api/models/{id}", get(api_model))
        .route("/api/contributors", get(api_contributors))
        .route("/api/contributors/{address}", get(api_contributor))
        .route(
            "/assets/style.css",
            get(|headers: HeaderMap| async move { asset(&headers, "text/css", STYLE) }),
        )
        .route(
            "/assets/live.js",
            get(|headers: HeaderMap| async move { asset(&headers, "text/javascript", SCRIPT) }),
        )
        .route(
            "/assets/icon.svg",
            get(|headers: HeaderMap| async move { asset(&headers, "image/svg+xml", ICON) }),
        )
        .fallback(unknown)
        .with_state(source)
        .layer(middleware::from_fn(harden))
}

async fn overview(State(source): Shared, headers: HeaderMap) -> Response {
    page(&headers, &OverviewPage { view: &figures::overview(&source.moment()) })
}

async fn contributor(State(source): Shared, Path(address): Path<String>, headers: HeaderMap) -> Response {
    let Some(address) = parse_address(&address) else { return bad_address(&address) };
    page(&headers, &ContributorPage { view: &figures::contributor(&source.moment(), address) })
}

/// The form of the overview: shows the page of the address that was entered.
async fn find_contributor(query: Result<Query<Wanted>, QueryRejection>) -> Response {
    let wanted = query.map(|Query(wanted)| wanted.address).unwrap_or_default();
    match parse_address(&wanted) {
        Some(address) => Redirect::to(&format!("/contributors/{address}")).into_response(),
        None => bad_address(&wanted),
    }
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    address: String,
}

async fn model(State(source): Shared, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find_model(&source.moment(), &name) {
        Some(view) => page(&headers, &ModelTemplate { view: &view }),
        None => problem(StatusCode::NOT_FOUND, "No such model", &unknown_model(&name)),
    }
}

async fn api_overview(State(source): Shared, headers: HeaderMap) -> Response {
    json(&headers, &figures::overview(&source.moment()))
}

async fn api_models(State(source): Shared, headers: HeaderMap) -> Response {
    let moment = source.moment();
    json(&headers, &figures::models(&moment, &Names::of_snapshot(&moment.snapshot)))
}

async fn api_model(State(source): Shared, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find_model(&source.moment(), &name) {
        Some(view) => json(&headers, &view),
        None => api_problem(StatusCode::NOT_FOUND, "model_not_found", &unknown_model(&name)),
    }
}

async fn api_contributors(State(source): Shared, headers: HeaderMap) -> Response {
    json(&headers, &figures::contributors(&source.moment()))
}

async fn api_contributor(State(source): Shared, Path(address): Path<String>, headers: HeaderMap) -> Response {
    match parse_address(&address) {
        Some(address) => json(&headers, &figures::contributor(&source.moment(), address)),
        None => api_problem(StatusCode::BAD_REQUEST, "bad_address", &no_address(&address)),
    }
}

async fn unknown(request: Request) -> Response {
    let path = clean(request.uri().path());
    if path.starts_with("/api/") {
        return api_problem(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing at {path}"));
    }
    problem(StatusCode::NOT_FOUND, "Nothing here", &format!("There is no page at {path}."))
}

/// A model by its id, or as a request would name it: `track`, `track@2`.
fn find_model(moment: &Moment, name: &str) -> Option<figures::ModelPage> {
    let id = moment.snapshot.resolve(name).ok()?.id;
    figures::model(moment, id)
}

fn unknown_model(name: &str) -> String {
    let name = clean(name);
    format!(
        "No model is registered as {name}. Give a model id (0x and {} hex digits) or a track's name.",
        2 * size_of::<ModelId>()
    )
}

fn parse_address(text: &str) -> Option<Address> {
    text.trim().strip_prefix("0x").filter(|digits| digits.len() == 40)?.parse().ok()
}

fn no_address(text: &str) -> String {
    format!("{:?} is no address: give 0x and 40 hex digits", clean(text))
}

fn bad_address(text: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "Not an address", &format!("{}.", no_address(text)))
}

fn page(request: &HeaderMap, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => cached(request, "text/html; charset=utf-8", html, "no-cache"),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Out of order",
                "This page could not be drawn. Try again.",
            )
        }
    }
}

fn json(request: &HeaderMap, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => cached(request, "application/json", text, "no-cache"),
        Err(error) => {
            tracing::error!(%error, "an answer could not be serialised");
            api_problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "the answer could not be written",
            )
        }
    }
}

fn asset(request: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    cached(request, kind, text.to_owned(), "public, max-age=300")
}

/// An answer with a tag, or 304 if the reader has it already.
fn cached(request: &HeaderMap, kind: &'static str, text: String, policy: &'static str) -> Response {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known =
        known.is_some_and(|known| known.split(',').any(|item| item.trim().trim_start_matches("W/") == tag));
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, policy)];
    let mut response = if is_known {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, text).into_response()
    };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn problem(status: StatusCode, title: &str, message: &str) -> Response {
    let html = ProblemPage { title, message }.render().unwrap_or_else(|_| title.to_owned());
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, Body::from(html)).into_response()
}

fn api_problem(status: StatusCode, code: &str, message: &str) -> Response {
    let kind = if status.is_server_error() { "api_error" } else { "invalid_request_error" };
    let body = serde_json::json!({
        "error": { "message": message, "type": kind, "param": null, "code": code }
    });
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

/// Headers that every answer carries.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
