//! The body of a streamed answer: server-sent events, metered as they are made.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use dividend_engine::TokenLogprobs;
use http_body::Frame;

use super::{Call, Ending, Step};
use crate::answer::error_json;
use crate::openai::{ChunkWriter, Counted, End, Part, ToolReader};

/// A frame is handed out when it has grown to this size, even if more is ready.
const FRAME_BYTES: usize = 16 << 10;

/// Everything that is ready goes out in one frame, and so in one write: a wake-up and a write per event is what costs
/// a gateway most. A frame is never kept back to wait for more.
pub(super) struct StreamBody {
    /// `None` after the end.
    call: Option<Call>,
    writer: ChunkWriter,
    tools: ToolReader,
    begun: bool,
}

impl StreamBody {
    pub(super) fn new(call: Call, writer: ChunkWriter) -> Self {
        let tools = call.tool_reader();
        Self { call: Some(call), writer, tools, begun: false }
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
                    let parts = self.tools.push(&call.id().to_string(), choice, text);
                    write_parts(&mut self.writer, out, choice, parts, &logprobs, usage.into());
                }
                // Vectors are not streamed: no request for them says so.
                Poll::Ready(Step::Vectors(_)) => {}
                Poll::Ready(Step::Ended { choice, reason, usage }) => {
                    let parts = self.tools.finish(&call.id().to_string(), choice);
                    write_parts(&mut self.writer, out, choice, parts, &[], usage.into());
                    let reason = self.tools.reason(choice, reason.as_str());
                    self.writer.end_choice(out, choice, reason, usage.into());
                }
                Poll::Ready(Step::End(ending)) => {
                    match *ending {
                        Ending::Finished { choice, reason, receipt, cached_tokens } => {
                            let parts = self.tools.finish(&call.id().to_string(), choice);
                            write_parts(&mut self.writer, out, choice, parts, &[], Counted::of(&receipt));
                            let finish_reason = self.tools.reason(choice, reason.as_str());
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

/// One event for each part; likelihoods go with the first, or by themselves.
fn write_parts(
    writer: &mut ChunkWriter,
    out: &mut BytesMut,
    choice: usize,
    parts: Vec<Part>,
    mut logprobs: &[TokenLogprobs],
    counted: Counted,
) {
    if parts.is_empty() && !logprobs.is_empty() {
        return writer.text(out, choice, "", logprobs, counted);
    }
    for part in parts {
        match part {
            Part::Text(text) if text.is_empty() && logprobs.is_empty() => {}
            Part::Text(text) => writer.text(out, choice, &text, std::mem::take(&mut logprobs), counted),
            Part::Call(call) => {
                if !logprobs.is_empty() {
                    writer.text(out, choice, "", std::mem::take(&mut logprobs), counted);
                }
                writer.tool_call(out, choice, &call, counted);
            }
        }
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
