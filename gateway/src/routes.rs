//! The API's endpoints.

mod credits;
mod health;
mod models;
mod receipts;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Method, Request, Response};

use crate::answer::answer;
use crate::body::Body;
use crate::calls::{generate, parse_chat, parse_completion, parse_embedding};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::layers::{BodyError, discard};

pub(crate) use health::readiness;
pub(crate) use models::priced_models;

/// Answers a request of the API listener.
pub(crate) async fn route<B>(gateway: Arc<Gateway>, request: Request<B>) -> Result<Response<Body>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send + Unpin,
{
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let waits = head.headers.contains_key(EXPECT);
    let mut response = match (&head.method, path.as_str()) {
        (&Method::POST, "/v1/chat/completions") => generate(&gateway, head, &mut body, parse_chat).await,
        (&Method::POST, "/v1/completions") => generate(&gateway, head, &mut body, parse_completion).await,
        (&Method::POST, "/v1/embeddings") => generate(&gateway, head, &mut body, parse_embedding).await,
        (&Method::GET | &Method::HEAD, path) => {
            read(&gateway, &head, path).await.unwrap_or_else(|error| answer(&error))
        }
        (method, path) => answer(&refusal(method, path)),
    };
    // A client whose body nobody reads finds its connection closed under it. One that waits to be told to send it does
    // not send it at all.
    if !body.is_end_stream() && (waits || !discard(body).await) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Whatever only reads.
async fn read(
    gateway: &Arc<Gateway>,
    head: &http::request::Parts,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    match path {
        "/healthz" | "/readyz" => open(gateway, path),
        "/v1/models" => models::list(gateway, &head.headers),
        "/v1/credits" => credits::show(gateway, &head.headers),
        _ => match path.strip_prefix("/v1/models/").map(unescape) {
            Some(name) => models::show(gateway, &head.headers, &name),
            None => match path.strip_prefix("/v1/receipts/") {
                Some(id) => receipts::show(gateway, &head.headers, id).await,
                None => Err(refusal(&head.method, path)),
            },
        },
    }
}

/// What needs no credentials, on both listeners.
pub(crate) fn open(gateway: &Gateway, path: &str) -> Result<Response<Body>, ApiError> {
    match path {
        "/healthz" => Ok(health::alive()),
        "/readyz" => Ok(health::ready(gateway)),
        _ => Err(refusal(&Method::GET, path)),
    }
}

/// 405 for a known path, 404 for any other.
fn refusal(method: &Method, path: &str) -> ApiError {
    let (method, shown) = (method.to_string(), path.chars().take(200).collect());
    match label(path) {
        "other" => ApiError::UnknownRoute { method, path: shown },
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" => {
            ApiError::MethodNotAllowed { method, path: shown, allowed: "POST" }
        }
        _ => ApiError::MethodNotAllowed { method, path: shown, allowed: "GET" },
    }
}

/// The metrics' label of a path: one of a fixed few, whatever is asked for.
pub(crate) fn label(path: &str) -> &'static str {
    const KNOWN: [&str; 8] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/credits",
        "/healthz",
        "/readyz",
        "/metrics",
    ];
    if let Some(known) = KNOWN.into_iter().find(|known| *known == path) {
        return known;
    }
    match path {
        _ if path.starts_with("/v1/models/") => "/v1/models/{id}",
        _ if path.starts_with("/v1/receipts/") => "/v1/receipts/{id}",
        _ if path.starts_with("/admin/") => "/admin",
        _ => "other",
    }
}

/// Undoes percent-encoding, for clients that encode the `@` of `track@n`. What is not an escape stays.
fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few() {
        assert_eq!(label("/v1/receipts/../../x"), "/v1/receipts/{id}");
        assert_eq!(label("/v1/nothing"), "other");
        assert_eq!(label("/readyz"), "/readyz");
    }

    #[test]
    fn escapes_are_undone_and_the_rest_left() {
        assert_eq!(unescape("demo%402"), "demo@2");
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%4"), "%zz%4");
    }
}
