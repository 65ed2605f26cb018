//! The one response body of the gateway: a buffer, or a stream that meters what it gives out.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::layers::Counted;

type Stream = Pin<Box<dyn HttpBody<Data = Bytes, Error = Infallible> + Send>>;

/// A response body. It cannot fail: an error in the middle of a stream is an event of the stream.
pub struct Body {
    kind: Kind,
    _counted: Option<Counted>,
}

enum Kind {
    Full(Option<Bytes>),
    Stream(Stream),
}

impl Body {
    /// A body that is all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Kind::Full(Some(bytes.into())).into()
    }

    /// A body that is made while it is sent.
    pub fn stream(stream: impl HttpBody<Data = Bytes, Error = Infallible> + Send + 'static) -> Self {
        Kind::Stream(Box::pin(stream)).into()
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, _counted: None }
    }
}

impl Body {
    /// Counts the request as in flight until its body is gone.
    pub(crate) fn keep(self, counted: Counted) -> Self {
        Self { _counted: Some(counted), ..self }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.kind {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_full_body_knows_its_length_and_ends() {
        let body = Body::full("abc");
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.expect("infallible").to_bytes(), "abc");
    }
}
