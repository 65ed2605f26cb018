//! Why the proxy does not pay or does not forward, as OpenAI clients understand it.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::money::shown_pico;

/// Tells OpenAI's clients not to try the same again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What keeps a call from being paid or sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The next voucher would promise more than the proxy was told to spend.
    #[error(
        "this call would raise the promises of the channel to {}, above the cap of {}; start the proxy with a higher \
         --cap to go on",
        shown_pico(*total_pico), shown_pico(*cap_pico)
    )]
    Cap {
        /// Sum of the promises over all lanes, with this call.
        total_pico: u128,
        /// The cap.
        cap_pico: u128,
    },
    /// One call may cost more than the proxy was told to spend on one.
    #[error(
        "this call may cost {}, above the cap per call of {}; ask for fewer tokens, or start the proxy with a higher \
         --per-call-cap",
        shown_pico(*call_pico), shown_pico(*cap_pico)
    )]
    CallCap {
        /// Worst case of the call.
        call_pico: u128,
        /// The cap.
        cap_pico: u128,
    },
    /// The gateway's terms are for something else than this channel.
    #[error("the gateway asks to be paid by {field} {found}, but this channel pays by {expected}")]
    Terms {
        /// Which term.
        field: &'static str,
        /// As the gateway has it.
        found: String,
        /// As the channel has it.
        expected: String,
    },
    /// The gateway says it served more than was ever promised to it.
    #[error(
        "the gateway says it served {} of lane {lane}, but only {} was promised here; if another machine signs for \
         this channel, use that machine's home, otherwise open a new channel",
        shown_pico(*served_pico), shown_pico(*signed_pico)
    )]
    OverServed {
        /// The lane.
        lane: String,
        /// As the gateway has it.
        served_pico: u128,
        /// Highest voucher signed.
        signed_pico: u128,
    },
    /// The gateway asks for more than this call can cost.
    #[error(
        "the gateway asks for a promise of {} on a lane where {} is promised and the call costs at most {}",
        shown_pico(*asked_pico), shown_pico(*signed_pico), shown_pico(*call_pico)
    )]
    Implausible {
        /// The promise asked for.
        asked_pico: u128,
        /// Highest voucher signed.
        signed_pico: u128,
        /// Worst case of the call.
        call_pico: u128,
    },
    /// The gateway wants a voucher that stays good for too long.
    #[error(
        "the gateway asks for a voucher valid until {expiry_s} (unix seconds), beyond the latest allowed, {latest_s}"
    )]
    Expiry {
        /// As asked.
        expiry_s: u64,
        /// Latest accepted.
        latest_s: u64,
    },
    /// A payment header that this proxy cannot read.
    #[error("the gateway's {header} header cannot be read: {problem}")]
    Header {
        /// Its name.
        header: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The promise could not be written down, so it was not made.
    #[error("the promise could not be stored, so nothing was signed: {0}")]
    Store(String),
    /// A browser page, or a name that does not mean this machine.
    #[error("{0}; the proxy spends money for programs on this machine only")]
    Foreign(String),
    /// The request's body is larger than is kept for a retry.
    #[error("the request's body is above {limit} bytes")]
    TooLarge {
        /// Largest body.
        limit: usize,
    },
    /// The client stopped sending its body.
    #[error("the request's body ended early: {0}")]
    Body(String),
    /// No answer from the gateway.
    #[error("the gateway at {upstream} does not answer: {problem}")]
    Upstream {
        /// Its base URL.
        upstream: String,
        /// What failed.
        problem: String,
    },
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Cap { .. } | Self::CallCap { .. } => StatusCode::PAYMENT_REQUIRED,
            Self::Terms { .. }
            | Self::OverServed { .. }
            | Self::Implausible { .. }
            | Self::Expiry { .. }
            | Self::Header { .. } => StatusCode::PAYMENT_REQUIRED,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Foreign(_) => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Upstream { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Cap { .. } => "spending_cap_reached",
            Self::CallCap { .. } => "call_cap_exceeded",
            Self::Terms { .. } | Self::Expiry { .. } | Self::Header { .. } => "payment_terms_rejected",
            Self::OverServed { .. } | Self::Implausible { .. } => "payment_implausible",
            Self::Store(_) => "promise_not_stored",
            Self::Foreign(_) => "foreign_caller",
            Self::TooLarge { .. } => "body_too_large",
            Self::Body(_) => "body_incomplete",
            Self::Upstream { .. } => "upstream_unreachable",
        }
    }

    fn kind(&self) -> &'static str {
        match self.status() {
            StatusCode::PAYMENT_REQUIRED => "insufficient_quota",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "error": {
                "message": self.to_string(),
                "type": self.kind(),
                "param": null,
                "code": self.code(),
            }
        });
        let mut response = (self.status(), Json(body)).into_response();
        if !matches!(self, Self::Upstream { .. }) {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}
