//! A panic becomes a 500.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::{Request, Response};
use tower::{Layer, Service};

use super::Boxed;
use crate::answer::answer;
use crate::body::Body;
use crate::error::ApiError;

/// Answers a request whose handling panics. What the request held is dropped by then, and its call closed.
#[derive(Clone, Copy)]
pub(crate) struct CatchPanic;

impl<S> Layer<S> for CatchPanic {
    type Service = CatchPanicService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanicService(inner)
    }
}

#[derive(Clone)]
pub(crate) struct CatchPanicService<S>(S);

impl<S, B> Service<Request<B>> for CatchPanicService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Nothing of the future is looked at after it has panicked.
        let handled = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(async move {
            handled.await.unwrap_or_else(|panic| {
                let message = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "a panic without a message".to_owned());
                Ok(answer(&ApiError::internal(message)))
            })
        })
    }
}
