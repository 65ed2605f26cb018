//! Sending a request on to the gateway.

use std::time::Duration;

use anyhow::Context;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use bytes::Bytes;

use crate::failure::Failure;
use crate::pay::refusal::Refusal;

/// Time for a connection; an answer may take as long as its model thinks.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection (RFC 9110, section 7.6.1), the client's stand-in for a key, and those that the
/// next connection sets itself.
const NOT_FORWARDED: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::AUTHORIZATION,
    header::EXPECT,
];

/// A request, kept whole because it may be sent twice.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The gateway.
pub(super) struct Upstream {
    /// Without a trailing slash and without the `/v1` that requests bring along.
    base: String,
    client: reqwest::Client,
}

impl Upstream {
    pub(super) fn new(base_url: &str) -> anyhow::Result<Self> {
        let trimmed = base_url.trim_end_matches('/');
        let base = trimmed.strip_suffix("/v1").unwrap_or(trimmed).to_owned();
        let url = reqwest::Url::parse(&base).ok();
        let is_web = url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
        if !is_web {
            let message = format!("--upstream {base_url:?} is not the URL of a gateway");
            return Err(Failure::usage(message, "write it as http://127.0.0.1:7410").into());
        }
        // Another part of the process may have chosen the same provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            // A voucher is for this gateway: it must not follow a redirect to another.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("preparing the HTTP client")?;
        Ok(Self { base, client })
    }

    /// Sends the request with the headers that pay for it.
    pub(super) async fn send(
        &self,
        outgoing: &Outgoing,
        pay: HeaderMap,
    ) -> Result<reqwest::Response, Refusal> {
        let path = outgoing.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = end_to_end(&outgoing.headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.extend(pay);
        self.client
            .request(outgoing.method.clone(), format!("{}{path}", self.base))
            .headers(headers)
            .body(outgoing.body.clone())
            .send()
            .await
            .map_err(|error| Refusal::Upstream { upstream: self.base.clone(), problem: causes(&error) })
    }
}

/// The headers that are meant for the other end, not for this connection.
pub(super) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named_by_connection = |name: &HeaderName| {
        let mut options = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        options.any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case(name.as_str())))
    };
    let kept = headers.iter().filter(|(name, _)| !NOT_FORWARDED.contains(name) && !named_by_connection(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.join(": ")
}
