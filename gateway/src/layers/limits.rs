//! Limits on the bytes and the time of a request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Sleep;
use tower::{Layer, Service};

use crate::error::ApiError;
use crate::gateway::Gateway;

/// Arms every body with the limits of the settings in force. Nothing is refused here: a body is refused where it is
/// read, so that a request without a right to be read is answered first.
#[derive(Clone)]
pub(crate) struct BodyLimits(Arc<Gateway>);

impl BodyLimits {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self(gateway)
    }
}

impl<S> Layer<S> for BodyLimits {
    type Service = BodyLimitsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyLimitsService { gateway: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct BodyLimitsService<S> {
    gateway: Arc<Gateway>,
    inner: S,
}

impl<S, B> Service<Request<B>> for BodyLimitsService<S>
where
    S: Service<Request<LimitedBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let settings = self.gateway.settings.load();
        let (bytes, ms) = (settings.gateway.max_body_bytes, settings.gateway.read_timeout_ms);
        // A client that waits to be told to send its body is told so by the first read.
        let linger = if request.headers().contains_key(EXPECT) { 0 } else { LINGER_BYTES };
        self.inner.call(request.map(|body| LimitedBody { linger, ..LimitedBody::new(body, bytes, ms) }))
    }
}

/// Most bytes that are read and thrown away of a body that is too large. A client that is still writing when its
/// connection is closed never sees the answer that says why.
const LINGER_BYTES: u64 = 16 << 20;

/// A body that ends in an error when it is too large or takes too long. The time begins with the first read.
pub(crate) struct LimitedBody<B> {
    inner: B,
    left: u64,
    /// How much is thrown away of a body that is too large.
    linger: u64,
    /// How much of a body that is too large may still be thrown away; `None` while it is within its limit.
    discard: Option<u64>,
    limit: u64,
    limit_ms: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("not complete after {limit_ms} ms")]
    Timeout { limit_ms: u64 },
    #[error("{0}")]
    Broken(String),
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::BodyTooLarge { limit },
            BodyError::Timeout { limit_ms } => Self::BodyTimeout { limit_ms },
            BodyError::Broken(detail) => Self::BodyBroken { detail },
        }
    }
}

impl<B> LimitedBody<B> {
    pub(crate) fn new(inner: B, limit: u64, limit_ms: u64) -> Self {
        Self { inner, left: limit, linger: LINGER_BYTES, discard: None, limit, limit_ms, timer: None }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let too_large = Poll::Ready(Some(Err(BodyError::TooLarge { limit: body.limit })));
        if body.discard.is_none() && body.inner.size_hint().lower() > body.left {
            body.discard = Some(body.linger);
        }
        if body.discard == Some(0) {
            return too_large;
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut body.inner).poll_frame(cx) else {
                let limit = Duration::from_millis(body.limit_ms);
                let timer = body.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                std::task::ready!(timer.as_mut().poll(cx));
                let late = BodyError::Timeout { limit_ms: body.limit_ms };
                return if body.discard.is_some() { too_large } else { Poll::Ready(Some(Err(late))) };
            };
            let bytes = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, |data| data.remaining() as u64);
            match (frame, &mut body.discard) {
                (None, None) => return Poll::Ready(None),
                (Some(Err(error)), None) => {
                    return Poll::Ready(Some(Err(BodyError::Broken(error.to_string()))));
                }
                (Some(Ok(frame)), None) => match body.left.checked_sub(bytes(&frame)) {
                    Some(left) => {
                        body.left = left;
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    None => body.discard = Some(body.linger),
                },
                (Some(Ok(frame)), Some(left)) if *left > 0 => *left = left.saturating_sub(bytes(&frame)),
                (_, Some(_)) => return too_large,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads a limited body to its end.
///
/// # Errors
/// [`ApiError::BodyTooLarge`], [`ApiError::BodyTimeout`], [`ApiError::BodyBroken`].
pub(crate) async fn read_all<B>(body: B) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes, Error = BodyError>,
{
    let mut body = std::pin::pin!(body);
    let mut gathered = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.as_mut().frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        match first.take() {
            None if gathered.is_empty() => first = Some(data),
            None => gathered.extend_from_slice(&data),
            Some(earlier) => {
                gathered.extend_from_slice(&earlier);
                gathered.extend_from_slice(&data);
            }
        }
    }
    // Most bodies come in one frame, and are not copied.
    Ok(first.unwrap_or_else(|| gathered.freeze()))
}

/// Longest that a body is read for nothing: a client that is still sending is soon done, one that only waits is not.
const DISCARD_WITHIN: Duration = Duration::from_secs(1);

/// Reads a limited body to its end for nothing; false if it does not end within its limits, or soon.
pub(crate) async fn discard<B>(mut body: B) -> bool
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let read = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_WITHIN, read).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn frames(pieces: &[&'static str]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(
            read_all(LimitedBody::new(frames(&["ab", "cd", "e"]), 5, 100)).await.expect("fits"),
            "abcde"
        );
        let error = read_all(LimitedBody::new(frames(&["ab", "cd", "e"]), 4, 100)).await.expect_err("5 of 4");
        assert!(matches!(error, ApiError::BodyTooLarge { limit: 4 }));
        let error = read_all(LimitedBody::new(Full::new(Bytes::from_static(b"abcde")), 4, 100)).await;
        assert!(matches!(error, Err(ApiError::BodyTooLarge { limit: 4 })), "its length is known beforehand");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_to_its_end_before_it_is_refused() {
        let mut body = LimitedBody::new(frames(&["ab", "cd", "ef", "gh"]), 3, 100);
        let error = read_all(&mut body).await.expect_err("8 of 3");
        assert!(matches!(error, ApiError::BodyTooLarge { limit: 3 }));
        assert!(body.inner.frame().await.is_none(), "the client has sent everything and can read the answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let begun = futures_util::stream::once(async {
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"{")))
        });
        let stalled = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
        let body = StreamBody::new(Box::pin(stalled));
        let error = read_all(LimitedBody::new(body, 100, 50)).await.expect_err("stalls");
        assert!(matches!(error, ApiError::BodyTimeout { limit_ms: 50 }));
    }
}
