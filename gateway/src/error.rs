//! What can go wrong: in a request ([`ApiError`]) and while the gateway starts or stops ([`GatewayError`]).

use std::net::SocketAddr;
use std::path::PathBuf;

use dividend_engine::SubmitError;
use http::StatusCode;

use crate::payment::PaymentRequired;

/// Why the gateway did not start or did not end cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A listener could not be had.
    #[error("cannot listen on {address}: {source}; stop what uses the port or set gateway.{setting}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// `listen` or `admin_listen`.
        setting: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The store of keys could not be read or written.
    #[error("key store {}: {problem}", path.display())]
    Keys {
        /// The database file.
        path: PathBuf,
        /// What failed and what would be right.
        problem: String,
    },
    /// The settings file cannot be watched; everything else works, but changes need a restart.
    #[error("cannot watch {}: {problem}", path.display())]
    Watch {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// A file of the gateway's own could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The journal could not be closed.
    #[error("the journal was not closed cleanly: {0}; the next start recovers it")]
    Journal(String),
    /// A metric was registered twice or has a malformed name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Why a request was refused. [`crate::answer`] turns it into the HTTP answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ApiError {
    #[error("the body is not JSON: {detail}")]
    MalformedJson { detail: String },
    #[error("{param} {message}")]
    Invalid { param: String, message: String },
    #[error("the body is wrong: {detail}")]
    WrongBody { detail: String },
    #[error("the body is encoded as {found:?}; send it as it is")]
    ContentEncoding { found: String },
    #[error("{param} cannot be honoured: {message}")]
    Unsupported { param: String, message: String },
    #[error("the body is larger than {limit} bytes; send less")]
    BodyTooLarge { limit: u64 },
    #[error("the body was not complete after {limit_ms} ms; send it faster")]
    BodyTimeout { limit_ms: u64 },
    #[error("the body ended early: {detail}")]
    BodyBroken { detail: String },
    #[error(
        "no API key was given; send \"authorization: Bearer sk-dvd-…\", or pay by channel with payment-signature"
    )]
    MissingKey,
    #[error("{}; check it, or ask the operator for one", unknown_key(.tail))]
    WrongKey { tail: String },
    #[error("the admin API needs \"authorization: Bearer \" and the token in keys/admin.token of the home")]
    WrongToken,
    #[error("the model {model:?} does not exist or is not served here; GET /v1/models lists what is")]
    UnknownModel { model: String },
    #[error("there is no {method} {path} here")]
    UnknownRoute { method: String, path: String },
    #[error("{path} takes {allowed}, not {method}")]
    MethodNotAllowed { method: String, path: String, allowed: &'static str },
    #[error("there is no {what} {id:?} here")]
    NotFound { what: &'static str, id: String },
    #[error(
        "the prompt has {prompt} tokens and up to {output} more were asked for, but the model's context is {context}; \
         shorten the prompt or lower max_tokens"
    )]
    ContextExceeded { prompt: u32, output: u32, context: u32 },
    #[error("the limit of {limit} requests per minute is reached; try again in {retry_ms} ms")]
    Requests { limit: u32, retry_ms: u64 },
    #[error(
        "this call could use {wanted} tokens, {left} are left of the limit of {limit} per minute; try again in {retry_ms} ms"
    )]
    Tokens { limit: u64, wanted: u64, left: u64, retry_ms: u64 },
    #[error("this call could use {wanted} tokens, the limit is {limit} per minute; lower max_tokens")]
    TokensNever { limit: u64, wanted: u64 },
    #[error("{limit} calls of this payer are in flight, which is its limit; wait for one to end")]
    Concurrency { limit: u32 },
    #[error(
        "this call may cost {needed_pico} pico-dollars and {remaining_pico} are left; ask the operator for credit or \
         lower max_tokens"
    )]
    Budget { needed_pico: u128, remaining_pico: u128 },
    #[error("{}", .0.reason)]
    PaymentRequired(Box<PaymentRequired>),
    #[error("{waiting} calls are waiting, which is the limit; try again later")]
    QueueFull { waiting: usize },
    #[error("the call waited {waited_ms} ms without a free place; try again later")]
    QueueTimeout { waited_ms: u64 },
    #[error("the gateway is shutting down; send the call to another one")]
    Draining,
    #[error("the gateway handles {limit} requests at once and has no place for another; try again later")]
    Overloaded { limit: usize },
    #[error(
        "the gateway's view of the chain is {age_ms} ms old, the limit is {limit_ms} ms; paid calls wait for it"
    )]
    SnapshotStale { age_ms: u64, limit_ms: u64 },
    #[error(
        "the royalty owed on prepaid calls is above the operator's escrow; prepaid service waits for a top-up"
    )]
    EscrowShort,
    #[error("the model {model} is not available at the moment: {reason}")]
    Unavailable { model: String, reason: String },
    #[error("the model failed while it answered; what was generated until then was charged")]
    Generation { detail: String },
    #[error(
        "the answer could not go on in the form that was asked for: {detail}; what was generated until then was charged, ask \
         for a simpler form"
    )]
    FormLost { detail: String },
    #[error("the call took longer than {limit_ms} ms and was cut; what was generated until then was charged")]
    CallTimeout { limit_ms: u64 },
    #[error("something went wrong here; the request id finds it in the gateway's log")]
    Internal { detail: String },
}

/// Names a key by its end, if it is of the form that keys have; anything else may be another service's secret.
fn unknown_key(tail: &str) -> String {
    match tail {
        "" => "this is no API key of ours: they begin with sk-dvd-".to_owned(),
        tail => format!("the API key ending in {tail:?} is not known here"),
    }
}

impl ApiError {
    /// A parameter with a wrong value.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { param: param.into(), message: message.into() }
    }

    /// A parameter that is understood but not served.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unsupported { param: param.into(), message: message.into() }
    }

    /// Something that is not the caller's fault and none of his business; the detail is for the log alone.
    pub(crate) fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Internal { detail: detail.to_string() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::MalformedJson { .. }
            | Self::Invalid { .. }
            | Self::WrongBody { .. }
            | Self::Unsupported { .. }
            | Self::BodyBroken { .. }
            | Self::FormLost { .. }
            | Self::ContextExceeded { .. } => StatusCode::BAD_REQUEST,
            Self::MissingKey | Self::WrongKey { .. } | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::PaymentRequired(_) => StatusCode::PAYMENT_REQUIRED,
            Self::UnknownModel { .. } | Self::UnknownRoute { .. } | Self::NotFound { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Requests { .. }
            | Self::Tokens { .. }
            | Self::TokensNever { .. }
            | Self::Concurrency { .. }
            | Self::Budget { .. }
            | Self::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::QueueTimeout { .. }
            | Self::Draining
            | Self::Overloaded { .. }
            | Self::SnapshotStale { .. }
            | Self::EscrowShort
            | Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::CallTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Generation { .. } | Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's `type`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Budget { .. } => "insufficient_quota",
            Self::Requests { .. } => "requests",
            Self::Tokens { .. } | Self::TokensNever { .. } => "tokens",
            Self::PaymentRequired(_) => "payment_required",
            _ if self.status().is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// OpenAI's `code`, or ours where it has none.
    pub(crate) fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::MalformedJson { .. } => "malformed_json",
            Self::Invalid { .. } | Self::WrongBody { .. } => "invalid_value",
            Self::ContentEncoding { .. } => "unsupported_content_encoding",
            Self::Unsupported { .. } => "unsupported_parameter",
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::BodyTimeout { .. } => "request_timeout",
            Self::BodyBroken { .. } => "incomplete_body",
            Self::MissingKey | Self::WrongKey { .. } => "invalid_api_key",
            Self::WrongToken => "invalid_admin_token",
            Self::UnknownModel { .. } => "model_not_found",
            Self::UnknownRoute { .. } => "unknown_url",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::NotFound { .. } => "not_found",
            Self::ContextExceeded { .. } => "context_length_exceeded",
            Self::Requests { .. } | Self::Tokens { .. } | Self::TokensNever { .. } => "rate_limit_exceeded",
            Self::Concurrency { .. } => "concurrency_limit_exceeded",
            Self::Budget { .. } => "insufficient_quota",
            Self::PaymentRequired(required) => required.code,
            Self::QueueFull { .. } => "queue_full",
            Self::QueueTimeout { .. } => "queue_timeout",
            Self::Draining => "draining",
            Self::Overloaded { .. } => "overloaded",
            Self::SnapshotStale { .. } => "chain_view_stale",
            Self::EscrowShort => "escrow_short",
            Self::Unavailable { .. } => "model_unavailable",
            Self::Generation { .. } => "generation_failed",
            Self::FormLost { .. } => "form_lost",
            Self::CallTimeout { .. } => "call_timeout",
            Self::Internal { .. } => return None,
        })
    }

    /// OpenAI's `param`: the field that is wrong.
    pub(crate) fn param(&self) -> Option<String> {
        match self {
            Self::Invalid { param, .. } | Self::Unsupported { param, .. } => Some(param.clone()),
            Self::UnknownModel { .. } => Some("model".to_owned()),
            Self::ContextExceeded { .. } => Some("messages".to_owned()),
            Self::TokensNever { .. } => Some("max_tokens".to_owned()),
            _ => None,
        }
    }

    /// How long the caller should wait before the same request, in milliseconds, where waiting can help.
    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Requests { retry_ms, .. } | Self::Tokens { retry_ms, .. } => Some(*retry_ms),
            Self::Concurrency { .. } | Self::QueueFull { .. } | Self::Overloaded { .. } => Some(1_000),
            Self::QueueTimeout { .. } | Self::Unavailable { .. } => Some(2_000),
            Self::Draining => Some(1_000),
            Self::SnapshotStale { .. } | Self::EscrowShort => Some(10_000),
            _ => None,
        }
    }

    /// Whether a client that retries by status would only waste its time.
    pub(crate) fn never_retry(&self) -> bool {
        matches!(self, Self::Budget { .. } | Self::TokensNever { .. })
    }
}

impl From<SubmitError> for ApiError {
    /// What the backend refuses.
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { limit } => ApiError::QueueFull { waiting: limit },
            SubmitError::PromptTooLong { prompt_tokens, max_tokens, context_length } => {
                ApiError::ContextExceeded {
                    prompt: u32::try_from(prompt_tokens).unwrap_or(u32::MAX),
                    output: u32::try_from(max_tokens).unwrap_or(u32::MAX),
                    context: u32::try_from(context_length).unwrap_or(u32::MAX),
                }
            }
            SubmitError::InputTooLong { .. } => ApiError::invalid("input", format!("is too long: {error}")),
            SubmitError::Invalid { field, found, expected } => {
                ApiError::invalid(field, format!("is {found}; it must be {expected}"))
            }
            SubmitError::Unhealthy { reason } => {
                tracing::error!(%reason, "the backend is out of service");
                ApiError::Unavailable {
                    model: "asked for".to_owned(),
                    reason: "its backend has failed".to_owned(),
                }
            }
            other => ApiError::internal(other),
        }
    }
}
