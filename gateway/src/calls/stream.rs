//! The body of a streamed answer: server-sent events, metered as they are made.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use super::{Call, Ending, Step};
use crate::answer::error_json;
use crate::openai::{ChunkWriter, End};

/// A frame is handed out when it has grown to this size, even if more is ready.
const FRAME_BYTES: usize = 16 << 10;

/// Everything that is ready goes out in one frame, and so in one write: a wake-up and a write per event is what costs
/// a gateway most. A frame is never kept back to wait for more.
pub(super) struct StreamBody {
    /// `None` after the end.
    call: Option<Call>,
    writer: ChunkWriter,
    begun: bool,
}

impl StreamBody {
    pub(super) fn new(call: Call, writer: ChunkWriter) -> Self {
        Self { call: Some(call), writer, begun: false }
    }

    /// Writes what is ready; true if there will be more.
    fn write_ready(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> bool {
        let Some(call) = &mut self.call else { return false };
        if !self.begun {
            self.begun = true;
            self.writer.begin(out);
        }
        while out.len() < FRAME_BYTES {
            match call.poll_step(cx) {
                Poll::Pending => return true,
                Poll::Ready(Step::Text { choice, text, logprobs, usage }) => {
                    if !text.is_empty() || !logprobs.is_empty() {
                        self.writer.text(out, choice, &text, &logprobs, usage.into());
                    }
                }
                // Vectors are not streamed: no request for them says so.
                Poll::Ready(Step::Vectors(_)) => {}
                Poll::Ready(Step::Ended { choice, reason, usage }) => {
                    self.writer.end_choice(out, choice, reason.as_str(), usage.into());
                }
                Poll::Ready(Step::End(ending)) => {
                    match *ending {
                        Ending::Finished { choice, reason, receipt, cached_tokens } => {
                            let finish_reason = reason.as_str();
                            self.writer.finish(out, End { choice, finish_reason, receipt, cached_tokens });
                        }
                        Ending::Failed(error) => self.writer.error(out, &error_json(&error)),
                    }
                    self.call = None;
                    return false;
                }
            }
        }
        true
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        let mut out = BytesMut::new();
        let more = body.write_ready(cx, &mut out);
        match (out.is_empty(), more) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(out.freeze())))),
            (true, true) => Poll::Pending,
            (true, false) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none()
    }
}
