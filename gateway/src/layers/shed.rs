//! Refusing early what cannot be served.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Method, Request, Response};
use tower::{Layer, Service};

use super::Boxed;
use crate::answer::answer;
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;

/// Of the connections, this many eighths may be busy with calls; the rest stays for health, balance and models.
const BUSY_EIGHTHS: usize = 7;

/// Refuses calls (`POST`) while the gateway drains or is full, before a byte of theirs is read or a key looked up.
#[derive(Clone)]
pub(crate) struct Shed(Arc<Gateway>);

impl Shed {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self(gateway)
    }
}

impl<S> Layer<S> for Shed {
    type Service = ShedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ShedService { gateway: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct ShedService<S> {
    gateway: Arc<Gateway>,
    inner: S,
}

impl<S, B> Service<Request<B>> for ShedService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Boxed<Result<Response<Body>, Infallible>>, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_call = request.method() == Method::POST;
        if is_call && self.gateway.is_draining() {
            return Either::Right(ready(Ok(answer(&ApiError::Draining))));
        }
        let most = self.gateway.settings.load().gateway.max_connections as usize * BUSY_EIGHTHS / 8;
        let Some(counted) = Counted::one_of(&self.gateway.in_flight, most.max(1), is_call) else {
            return Either::Right(ready(Ok(answer(&ApiError::Overloaded { limit: most }))));
        };
        let handled = self.inner.call(request);
        Either::Left(Box::pin(async move {
            let response = handled.await?;
            // A streamed answer is in flight until its body ends or is dropped.
            Ok(response.map(|body| body.keep(counted)))
        }))
    }
}

/// One request in flight.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_of(count: &Arc<AtomicUsize>, most: usize, bounded: bool) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::AcqRel);
        let counted = Self(count.clone());
        (!bounded || before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
