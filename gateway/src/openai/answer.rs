//! Answers in OpenAI's shape: one object, or the events of a stream.

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::StreamUsage;
use crate::receipt::ReceiptView;

/// Which of the two endpoints answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// `usage`, with the receipt as an extension field.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub dividend: ReceiptView,
}

impl Usage {
    /// The usage that a receipt answers for.
    pub(crate) fn of(receipt: ReceiptView) -> Self {
        let (prompt, completion) = (receipt.tokens_in, receipt.tokens_out);
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            dividend: receipt,
        }
    }
}

impl Shape {
    fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl-",
            Self::Text => "cmpl-",
        }
    }

    fn object(self, chunk: bool) -> &'static str {
        match (self, chunk) {
            (Self::Chat, false) => "chat.completion",
            (Self::Chat, true) => "chat.completion.chunk",
            (Self::Text, _) => "text_completion",
        }
    }
}

/// What identifies an answer in each of its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub shape: Shape,
    pub call: &'a str,
    pub created_s: u64,
    /// The name by which the caller asked.
    pub model: &'a str,
}

#[derive(Serialize)]
struct Head<'a> {
    id: String,
    object: &'a str,
    created: u64,
    model: &'a str,
}

impl Identity<'_> {
    fn head(&self, chunk: bool) -> Head<'_> {
        Head {
            id: format!("{}{}", self.shape.id_prefix(), self.call),
            object: self.shape.object(chunk),
            created: self.created_s,
            model: self.model,
        }
    }
}

#[derive(Serialize)]
struct FullAnswer<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    choices: [serde_json::Value; 1],
    usage: Usage,
}

/// The whole answer as one object.
pub(crate) fn full_answer(identity: &Identity<'_>, text: &str, finish_reason: &str, usage: Usage) -> Vec<u8> {
    let choice = match identity.shape {
        Shape::Chat => serde_json::json!({
            "index": 0,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": null,
            "finish_reason": finish_reason,
        }),
        Shape::Text => {
            serde_json::json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason })
        }
    };
    let answer = FullAnswer { head: identity.head(false), choices: [choice], usage };
    to_json(&answer)
}

/// What has been counted so far of a call that goes on.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counted {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl From<dividend_meter::Usage> for Counted {
    fn from(usage: dividend_meter::Usage) -> Self {
        let (prompt, completion) = (u64::from(usage.prompt_tokens), u64::from(usage.completion_tokens));
        Self { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
    }
}

/// Writes the events of one stream. What does not change between events is serialised once.
pub(crate) struct ChunkWriter {
    shape: Shape,
    /// `data: {"id":…,"model":"…","choices":[`
    head: Vec<u8>,
    usage: StreamUsage,
}

impl ChunkWriter {
    pub(crate) fn new(identity: &Identity<'_>, usage: StreamUsage) -> Self {
        let mut head = b"data: ".to_vec();
        head.extend(to_json(&identity.head(true)));
        head.pop();
        head.extend(b",\"choices\":[");
        Self { shape: identity.shape, head, usage }
    }

    /// The first event of a chat: who speaks. A text completion has none.
    pub(crate) fn begin(&self, out: &mut BytesMut) {
        if self.shape == Shape::Chat {
            let role = "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}";
            self.choice(out, role, b"", "", None);
        }
    }

    /// A piece of the answer, and what has been counted with it.
    pub(crate) fn text(&self, out: &mut BytesMut, text: &str, counted: Counted) {
        let text = to_json(&text);
        match self.shape {
            Shape::Chat => self.choice(out, "\"delta\":{\"content\":", &text, "}", Some(counted)),
            Shape::Text => self.choice(out, "\"text\":", &text, "", Some(counted)),
        }
    }

    /// The end: why it ended, then the usage if it was asked for, then `[DONE]`. The receipt is in the last event
    /// before it, as `usage.dividend` or, without usage, as `dividend`.
    pub(crate) fn finish(&self, out: &mut BytesMut, reason: &str, receipt: ReceiptView) {
        let reason = to_json(&reason);
        let body = match self.shape {
            Shape::Chat => "\"delta\":{}",
            Shape::Text => "\"text\":\"\"",
        };
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,");
        out.extend_from_slice(body.as_bytes());
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        out.extend_from_slice(&reason);
        out.extend_from_slice(b"}]");
        if self.usage != StreamUsage::Never {
            out.extend_from_slice(b",\"usage\":null}\n\n");
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            out.extend_from_slice(&to_json(&Usage::of(receipt)));
        } else {
            out.extend_from_slice(b",\"dividend\":");
            out.extend_from_slice(&to_json(&receipt));
        }
        out.extend_from_slice(b"}\n\n");
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// An error in the middle: OpenAI's clients raise it. Nothing follows, not even `[DONE]`.
    pub(crate) fn error(&self, out: &mut BytesMut, error_json: &[u8]) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(error_json);
        out.extend_from_slice(b"\n\n");
    }

    /// An event with one choice that has not ended.
    fn choice(&self, out: &mut BytesMut, before: &str, text: &[u8], after: &str, counted: Option<Counted>) {
        out.reserve(self.head.len() + before.len() + text.len() + 80);
        out.put_slice(&self.head);
        out.put_slice(b"{\"index\":0,");
        out.put_slice(before.as_bytes());
        out.put_slice(text);
        out.put_slice(after.as_bytes());
        out.put_slice(b",\"logprobs\":null,\"finish_reason\":null}]");
        match (self.usage, counted) {
            (StreamUsage::Never, _) => {}
            (StreamUsage::Always, Some(counted)) => {
                out.put_slice(b",\"usage\":");
                out.put_slice(&to_json(&counted));
            }
            _ => out.put_slice(b",\"usage\":null"),
        }
        out.put_slice(b"}\n\n");
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these structs have string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(shape: Shape, usage: StreamUsage) -> String {
        let identity = Identity { shape, call: "0abc", created_s: 1_700_000_000, model: "demo" };
        let writer = ChunkWriter::new(&identity, usage);
        let mut out = BytesMut::new();
        writer.begin(&mut out);
        let counted = dividend_meter::Usage { prompt_tokens: 9, completion_tokens: 3 };
        writer.text(&mut out, "Hi \"you\"\n", counted.into());
        writer.finish(&mut out, "stop", ReceiptView::sample());
        String::from_utf8(out.to_vec()).expect("JSON is UTF-8")
    }

    #[test]
    fn a_chat_stream_with_usage() {
        insta::assert_snapshot!(stream(Shape::Chat, StreamUsage::AtEnd));
    }

    #[test]
    fn a_chat_stream_without_usage() {
        insta::assert_snapshot!(stream(Shape::Chat, StreamUsage::Never));
    }

    #[test]
    fn a_text_stream() {
        insta::assert_snapshot!(stream(Shape::Text, StreamUsage::AtEnd));
    }

    #[test]
    fn every_piece_carries_the_usage_so_far_when_it_is_asked_for() {
        let text = stream(Shape::Chat, StreamUsage::Always);
        let piece = text.split("\n\n").find(|event| event.contains("Hi")).expect("the piece");
        assert!(
            piece.ends_with(r#""usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#),
            "{piece}"
        );
    }

    #[test]
    fn every_event_is_one_line_of_json() {
        for shape in [Shape::Chat, Shape::Text] {
            for usage in [StreamUsage::Never, StreamUsage::AtEnd, StreamUsage::Always] {
                let text = stream(shape, usage);
                let events: Vec<_> = text.split_terminator("\n\n").collect();
                let (done, events) = events.split_last().expect("events");
                assert_eq!(*done, "data: [DONE]");
                for event in events {
                    let json = event.strip_prefix("data: ").expect("an event");
                    let value: serde_json::Value = serde_json::from_str(json).expect(json);
                    assert_eq!(value.get("usage").is_some(), usage != StreamUsage::Never, "{json}");
                }
            }
        }
    }

    #[test]
    fn whole_answers() {
        for shape in [Shape::Chat, Shape::Text] {
            let identity = Identity { shape, call: "0abc", created_s: 1_700_000_000, model: "demo" };
            let bytes = full_answer(&identity, "Hi", "length", Usage::of(ReceiptView::sample()));
            let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            insta::assert_json_snapshot!(format!("whole_{shape:?}"), value);
        }
    }
}
