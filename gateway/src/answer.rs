//! The one place where an error becomes an HTTP answer.

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::body::Body;
use crate::error::ApiError;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// openai-python and openai-node stop retrying when they see it.
const SHOULD_RETRY: &str = "x-should-retry";
/// Read by the OpenAI clients before `retry-after`; finer.
const RETRY_AFTER_MS: &str = "retry-after-ms";

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    message: String,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<String>,
    code: Option<&'a str>,
}

/// The error body in OpenAI's shape, as an answer's body or as an event in the middle of a stream.
pub(crate) fn error_json(error: &ApiError) -> Vec<u8> {
    if let ApiError::Internal { detail } | ApiError::Generation { detail } = error {
        tracing::error!(%detail, "request failed");
    }
    let detail =
        Detail { message: error.to_string(), kind: error.kind(), param: error.param(), code: error.code() };
    serde_json::to_vec(&ErrorBody { error: detail }).unwrap_or_else(|_| br#"{"error":{}}"#.to_vec())
}

/// The HTTP answer to an error: OpenAI's body, and the headers that its clients act on.
pub(crate) fn answer(error: &ApiError) -> Response<Body> {
    let mut response = json_bytes(error.status(), error_json(error));
    let headers = response.headers_mut();
    if let Some(wait_ms) = error.retry_after_ms() {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000).max(1)));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait_ms.max(1)));
    }
    if error.never_retry() {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    match error {
        ApiError::MissingKey | ApiError::WrongKey { .. } | ApiError::WrongToken => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        ApiError::PaymentRequired(required) => required.write_header(headers),
        ApiError::MethodNotAllowed { allowed, .. } => {
            headers.insert(http::header::ALLOW, HeaderValue::from_static(allowed));
        }
        // What is left of the body is unread: the connection cannot carry another request.
        ApiError::BodyTooLarge { .. } | ApiError::BodyTimeout { .. } => {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(error) => answer(&ApiError::internal(error)),
    }
}

pub(crate) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_exhausted_budget_is_final_and_a_full_minute_is_not() {
        let budget = answer(&ApiError::Budget { needed_pico: 10, remaining_pico: 3 });
        assert_eq!(budget.status(), 429);
        assert_eq!(budget.headers()[SHOULD_RETRY], "false");
        assert!(!budget.headers().contains_key(RETRY_AFTER));
        let minute = answer(&ApiError::Requests { limit: 5, retry_ms: 1_200 });
        assert_eq!(minute.headers()[RETRY_AFTER], "2");
        assert_eq!(minute.headers()[RETRY_AFTER_MS], "1200");
        assert!(!minute.headers().contains_key(SHOULD_RETRY));
        let body = minute.into_body().collect().await.expect("infallible").to_bytes();
        insta::assert_snapshot!(String::from_utf8_lossy(&body), @r#"{"error":{"message":"the limit of 5 requests per minute is reached; try again in 1200 ms","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#);
    }

    #[tokio::test]
    async fn an_internal_error_leaks_nothing() {
        let response = answer(&ApiError::internal("/secret/path: permission denied"));
        assert_eq!(response.status(), 500);
        let body = response.into_body().collect().await.expect("infallible").to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}
