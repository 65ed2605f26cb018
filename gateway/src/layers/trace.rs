//! A span, a line of log and a metric for every request.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use tower::{Layer, Service};
use tracing::Instrument;

use super::Boxed;
use crate::body::Body;
use crate::gateway::Gateway;
use crate::routes;

/// The status, never sent, of a request whose client left before it was answered.
const CLIENT_GONE: &str = "499";

/// Traces and counts. The time is that until the answer's head; a call's own time is counted at its end.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Gateway>);

impl Trace {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self(gateway)
    }
}

impl<S> Layer<S> for Trace {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService { gateway: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct TraceService<S> {
    gateway: Arc<Gateway>,
    inner: S,
}

impl<S, B> Service<Request<B>> for TraceService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let began = Instant::now();
        let route = routes::label(request.uri().path());
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
        let span = tracing::info_span!("request", id, method = %request.method(), route);
        let handled = span.in_scope(|| self.inner.call(request));
        let gateway = self.gateway.clone();
        let traced = async move {
            let mut unanswered = Unanswered { gateway: Some(gateway), route, began };
            let response = handled.await?;
            let elapsed = began.elapsed();
            if let Some(gateway) = unanswered.gateway.take() {
                gateway.metrics.answered(route, response.status().as_str(), elapsed);
            }
            tracing::debug!(status = response.status().as_u16(), us = elapsed.as_micros(), "answered");
            Ok(response)
        };
        Box::pin(traced.instrument(span))
    }
}

/// A request whose client may leave before it is answered, which drops the future and so this.
struct Unanswered {
    gateway: Option<Arc<Gateway>>,
    route: &'static str,
    began: Instant,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(gateway) = &self.gateway {
            gateway.metrics.answered(self.route, CLIENT_GONE, self.began.elapsed());
            tracing::debug!(status = CLIENT_GONE, "the client left before the answer");
        }
    }
}
