//! The local signing proxy: an OpenAI client points its base URL here and pays by channel without knowing it.
//!
//! A request goes out with a voucher over nothing, which shows whose it is. If the answer is a 402 that says what a
//! voucher must promise, the proxy signs one and sends the request again; bodies of answers pass through as they come. A
//! client that hangs up takes the call to the gateway down with it.

mod forward;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use dividend_gateway::payment::{
    PaymentRequired, PaymentResponse, REQUIRED_HEADER, RESPONSE_HEADER, SIGNATURE_HEADER,
};
use futures_util::StreamExt;
use tokio::net::TcpListener;

use super::payer::{Hold, Payer, Payment};
use super::refusal::Refusal;
use forward::{Outgoing, Upstream};

/// Largest request that is kept for the second sending.
const MAX_REQUEST_BYTES: usize = 16 << 20;
/// Vouchers signed for one call: one, and a few more if other calls were paid in between.
const MAX_SIGNATURES: usize = 4;

/// One channel's proxy to one gateway.
pub(crate) struct Proxy {
    payer: Payer,
    upstream: Upstream,
}

impl Proxy {
    /// A proxy to the gateway at `upstream`, the base URL that a client would use.
    ///
    /// # Errors
    /// A URL that is not http or https.
    pub(crate) fn new(payer: Payer, upstream: &str) -> anyhow::Result<Self> {
        Ok(Self { payer, upstream: Upstream::new(upstream)? })
    }

    /// Serves until `stop` resolves, then finishes what is running.
    ///
    /// # Errors
    /// A listener that fails.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let router = Router::new().fallback(answer).with_state(Arc::new(self));
        axum::serve(listener, router).with_graceful_shutdown(stop).await
    }

    async fn call(&self, request: Request) -> Result<Response, Refusal> {
        refuse_browsers(request.headers(), request.uri())?;
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await.map_err(body_refusal)?;
        let outgoing = Outgoing { method: parts.method, uri: parts.uri, headers: parts.headers, body };
        let mut payment: Option<Payment> = None;
        for _ in 0..MAX_SIGNATURES {
            let response = self.send(&outgoing, payment.as_ref()).await?;
            let Some(required) = required(&response)? else {
                return self.pass(response, payment).await;
            };
            if !would_help(&required, payment.as_ref()) {
                return Ok(final_answer(self.pass(response, None).await?));
            }
            // The call's earlier voucher was too low: it holds nothing any more.
            drop(payment.take());
            payment = Some(self.payer.pay(&required).await?);
        }
        let response = self.send(&outgoing, payment.as_ref()).await?;
        self.pass(response, payment).await
    }

    async fn send(
        &self,
        outgoing: &Outgoing,
        payment: Option<&Payment>,
    ) -> Result<reqwest::Response, Refusal> {
        let header = match payment {
            None => self.payer.introduce()?,
            Some(payment) => payment.header.clone(),
        };
        let mut pay = HeaderMap::new();
        pay.insert(HeaderName::from_static(SIGNATURE_HEADER), value(&header)?);
        self.upstream.send(outgoing, pay).await
    }

    /// Hands an answer to the client as it comes. The call's hold lives as long as its body.
    async fn pass(&self, response: reqwest::Response, payment: Option<Payment>) -> Result<Response, Refusal> {
        if let Some(text) = header_text(&response, RESPONSE_HEADER) {
            match PaymentResponse::decode(text) {
                Ok(paid) => self.payer.learn(&paid).await,
                // The call is served and paid; what it taught is asked again at the next one.
                Err(problem) => {
                    tracing::warn!(%problem, "the gateway's {RESPONSE_HEADER} header cannot be read")
                }
            }
        }
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = forward::end_to_end(response.headers());
        let hold: Option<Hold> = payment.map(|payment| payment.hold);
        *answer.body_mut() = Body::from_stream(response.bytes_stream().map(move |chunk| {
            let _held_until_the_end = &hold;
            chunk
        }));
        Ok(answer)
    }
}

/// Says where the proxy listens: only programs on this machine may spend the channel.
///
/// # Errors
/// An address that others can reach.
pub(crate) fn check_listen(address: SocketAddr) -> Result<(), String> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "--listen {address} lets other machines spend the channel; give a loopback address such as 127.0.0.1:8402"
    ))
}

async fn answer(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    proxy.call(request).await.unwrap_or_else(|refusal| {
        tracing::warn!(%refusal, "call refused");
        refusal.into_response()
    })
}

/// What the gateway wants for the call, if it wants to be paid.
fn required(response: &reqwest::Response) -> Result<Option<PaymentRequired>, Refusal> {
    if response.status() != axum::http::StatusCode::PAYMENT_REQUIRED {
        return Ok(None);
    }
    let Some(text) = header_text(response, REQUIRED_HEADER) else { return Ok(None) };
    let unreadable = |problem| Refusal::Header { header: REQUIRED_HEADER, problem };
    PaymentRequired::decode(text).map(Some).map_err(unreadable)
}

/// Whether a (further) voucher can turn the 402 into an answer. An unknown or exhausted channel needs something else, which
/// the body of the 402 tells the client.
fn would_help(required: &PaymentRequired, payment: Option<&Payment>) -> bool {
    let is_covered = payment.is_some_and(|paid| paid.max_cumulative_pico >= required.max_cumulative);
    let is_priced = required.max_cumulative > 0 && required.lane.is_some() && required.channel.is_some();
    is_priced && !is_covered
}

/// A web page must not spend the channel, neither by a request across origins nor under a name that was made to point
/// here (DNS rebinding). Programs send no `origin` and use the loopback address.
fn refuse_browsers(headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::Foreign("requests of web pages are refused".to_owned()));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or_default();
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    if matches!(name, "localhost" | "[::1]")
        || name.starts_with("127.") && name.parse::<std::net::Ipv4Addr>().is_ok()
    {
        return Ok(());
    }
    Err(Refusal::Foreign(format!("host {authority:?} is not this machine's loopback address")))
}

/// The gateway's own 402, marked so that clients do not repeat it.
fn final_answer(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
    response
}

fn body_refusal(error: axum::Error) -> Refusal {
    let is_limit =
        std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
    if is_limit { Refusal::TooLarge { limit: MAX_REQUEST_BYTES } } else { Refusal::Body(error.to_string()) }
}

fn header_text<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(text)
        .map_err(|error| Refusal::Header { header: SIGNATURE_HEADER, problem: error.to_string() })
}
