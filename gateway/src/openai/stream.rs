//! The events of a streamed answer.

use bytes::{BufMut, BytesMut};
use dividend_engine::TokenLogprobs;
use serde::Serialize;
use serde_json::Value;

use super::answer::{Identity, Usage, to_json};
use super::logprobs::logprobs;
use super::{Shape, StreamUsage};
use crate::receipt::ReceiptView;

/// What has been counted so far of a call that goes on.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counted {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Counted {
    /// All of a call that has ended.
    pub(crate) fn of(receipt: &ReceiptView) -> Self {
        let (prompt, completion) = (receipt.tokens_in, receipt.tokens_out);
        Self { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
    }
}

impl From<dividend_meter::Usage> for Counted {
    fn from(usage: dividend_meter::Usage) -> Self {
        let (prompt, completion) = (u64::from(usage.prompt_tokens), u64::from(usage.completion_tokens));
        Self { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
    }
}

/// The end of an answer's last choice.
pub(crate) struct End {
    pub choice: usize,
    pub finish_reason: &'static str,
    pub receipt: ReceiptView,
    pub cached_tokens: u64,
}

/// Writes the events of one stream. What does not change between events is serialised once.
pub(crate) struct ChunkWriter {
    shape: Shape,
    /// `data: {"id":…,"model":"…","choices":[`
    head: Vec<u8>,
    usage: StreamUsage,
    /// Characters written of each choice, as far as their tokens were told of.
    offsets: Vec<usize>,
}

impl ChunkWriter {
    pub(crate) fn new(identity: &Identity<'_>, usage: StreamUsage, choices: usize) -> Self {
        let mut head = b"data: ".to_vec();
        head.extend(to_json(&identity.head(true)));
        head.pop();
        head.extend(b",\"choices\":[");
        Self { shape: identity.shape, head, usage, offsets: vec![0; choices] }
    }

    /// The first events of a chat, one for each choice: who speaks. A text completion has none.
    pub(crate) fn begin(&self, out: &mut BytesMut) {
        if self.shape == Shape::Chat {
            for choice in 0..self.offsets.len() {
                let role = b"\"delta\":{\"role\":\"assistant\",\"content\":\"\"}";
                self.event(out, choice, &[role], b"null", b"null", None);
            }
        }
    }

    /// A piece of a choice, how likely its tokens were if that was asked for, and what has been counted with it.
    pub(crate) fn text(
        &mut self,
        out: &mut BytesMut,
        choice: usize,
        text: &str,
        tokens: &[TokenLogprobs],
        counted: Counted,
    ) {
        let text = to_json(&text);
        let told;
        let likelihoods: &[u8] = if tokens.is_empty() {
            b"null"
        } else {
            told = to_json(&logprobs(self.shape, tokens, &mut self.offsets[choice]));
            &told
        };
        let body: [&[u8]; 3] = match self.shape {
            Shape::Chat => [b"\"delta\":{\"content\":", &text, b"}"],
            Shape::Text | Shape::Embedding(_) => [b"\"text\":", &text, b""],
        };
        self.event(out, choice, &body, likelihoods, b"null", Some(counted));
    }

    /// A call of a tool.
    pub(crate) fn tool_call(&self, out: &mut BytesMut, choice: usize, call: &Value, counted: Counted) {
        let call = to_json(call);
        let body: [&[u8]; 3] = [b"\"delta\":{\"tool_calls\":[", &call, b"]}"];
        self.event(out, choice, &body, b"null", b"null", Some(counted));
    }

    /// The end of a choice while others go on.
    pub(crate) fn end_choice(
        &self,
        out: &mut BytesMut,
        choice: usize,
        finish_reason: &str,
        counted: Counted,
    ) {
        self.event(out, choice, &[self.nothing()], b"null", &to_json(&finish_reason), Some(counted));
    }

    /// The end: why the last choice ended, then the usage if it was asked for, then `[DONE]`. The receipt is in the last
    /// event before it, as `usage.dividend` or, without usage, as `dividend`.
    pub(crate) fn finish(&self, out: &mut BytesMut, end: End) {
        self.open_event(out, end.choice, &[self.nothing()], b"null", &to_json(&end.finish_reason));
        if self.usage != StreamUsage::Never {
            out.put_slice(b",\"usage\":null}\n\n");
            out.put_slice(&self.head);
            out.put_slice(b"],\"usage\":");
            out.put_slice(&to_json(&Usage::of(end.receipt, end.cached_tokens)));
        } else {
            out.put_slice(b",\"dividend\":");
            out.put_slice(&to_json(&end.receipt));
        }
        out.put_slice(b"}\n\ndata: [DONE]\n\n");
    }

    /// An error in the middle: OpenAI's clients raise it. Nothing follows, not even `[DONE]`.
    pub(crate) fn error(&self, out: &mut BytesMut, error_json: &[u8]) {
        out.put_slice(b"data: ");
        out.put_slice(error_json);
        out.put_slice(b"\n\n");
    }

    fn nothing(&self) -> &'static [u8] {
        match self.shape {
            Shape::Chat => b"\"delta\":{}",
            Shape::Text | Shape::Embedding(_) => b"\"text\":\"\"",
        }
    }

    /// An event of one choice.
    fn event(
        &self,
        out: &mut BytesMut,
        choice: usize,
        body: &[&[u8]],
        likelihoods: &[u8],
        finish_reason: &[u8],
        counted: Option<Counted>,
    ) {
        self.open_event(out, choice, body, likelihoods, finish_reason);
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

    /// An event of one choice up to the end of `choices`.
    fn open_event(
        &self,
        out: &mut BytesMut,
        choice: usize,
        body: &[&[u8]],
        likelihoods: &[u8],
        finish_reason: &[u8],
    ) {
        let length: usize = body.iter().map(|part| part.len()).sum();
        out.reserve(self.head.len() + length + likelihoods.len() + 96);
        out.put_slice(&self.head);
        out.put_slice(b"{\"index\":");
        out.put_slice(&to_json(&choice));
        out.put_slice(b",");
        body.iter().for_each(|part| out.put_slice(part));
        out.put_slice(b",\"logprobs\":");
        out.put_slice(likelihoods);
        out.put_slice(b",\"finish_reason\":");
        out.put_slice(finish_reason);
        out.put_slice(b"}]");
    }
}

#[cfg(test)]
mod tests {
    use super::super::logprobs::sample;
    use super::*;

    fn stream(shape: Shape, usage: StreamUsage) -> String {
        let identity = Identity { shape, call: "0abc", created_s: 1_700_000_000, model: "demo" };
        let mut writer = ChunkWriter::new(&identity, usage, 1);
        let mut out = BytesMut::new();
        writer.begin(&mut out);
        let counted = dividend_meter::Usage { prompt_tokens: 9, completion_tokens: 3 };
        writer.text(&mut out, 0, "Hi \"you\"\n", &[], counted.into());
        writer.finish(&mut out, end(0));
        String::from_utf8(out.to_vec()).expect("JSON is UTF-8")
    }

    fn end(choice: usize) -> End {
        End { choice, finish_reason: "stop", receipt: ReceiptView::sample(), cached_tokens: 2 }
    }

    #[test]
    fn choices_end_one_by_one_and_the_last_carries_the_receipt() {
        let identity = Identity { shape: Shape::Text, call: "0abc", created_s: 1_700_000_000, model: "demo" };
        let mut writer = ChunkWriter::new(&identity, StreamUsage::Never, 2);
        let mut out = BytesMut::new();
        writer.text(&mut out, 1, "Hi", &sample()[..1], Counted::default());
        writer.text(&mut out, 1, "\u{fffd}", &sample()[1..], Counted::default());
        writer.end_choice(&mut out, 1, "length", Counted::default());
        writer.finish(&mut out, end(0));
        insta::assert_snapshot!(String::from_utf8(out.to_vec()).expect("JSON is UTF-8"));
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
}
