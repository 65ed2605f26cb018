//! Answers in OpenAI's shape: what all have in common, and the whole answer as one object.

use dividend_engine::{FinishReason, TokenLogprobs};
use serde::Serialize;
use serde_json::{Value, json};

use super::logprobs::logprobs;
use super::{Encoding, Part, ToolReader};
use crate::receipt::ReceiptView;

/// Which endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
    /// `/v1/embeddings`.
    Embedding(Encoding),
}

/// `usage`, with the receipt as an extension field.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub prompt_tokens_details: PromptDetails,
    pub dividend: ReceiptView,
}

/// What is known of the prompt's tokens.
#[derive(Debug, Serialize)]
pub(crate) struct PromptDetails {
    /// Computed already, for an earlier call that began alike. They cost what the others cost.
    pub cached_tokens: u64,
}

impl Usage {
    /// The usage that a receipt answers for.
    pub(crate) fn of(receipt: ReceiptView, cached_tokens: u64) -> Self {
        let (prompt, completion) = (receipt.tokens_in, receipt.tokens_out);
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptDetails { cached_tokens },
            dividend: receipt,
        }
    }
}

impl Shape {
    fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl-",
            Self::Text => "cmpl-",
            Self::Embedding(_) => "embd-",
        }
    }

    fn object(self, chunk: bool) -> &'static str {
        match (self, chunk) {
            (Self::Chat, false) => "chat.completion",
            (Self::Chat, true) => "chat.completion.chunk",
            (Self::Text, _) => "text_completion",
            (Self::Embedding(_), _) => "list",
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
pub(super) struct Head<'a> {
    id: String,
    object: &'a str,
    created: u64,
    model: &'a str,
}

impl Identity<'_> {
    pub(super) fn head(&self, chunk: bool) -> Head<'_> {
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
    choices: Vec<Value>,
    usage: Usage,
}

/// One complete choice.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub text: String,
    /// One per token if they were asked for, else none.
    pub logprobs: Vec<TokenLogprobs>,
    /// Calls of tools, as they are written.
    pub tool_calls: Vec<Value>,
    pub finish_reason: &'static str,
}

/// The whole answer as one object.
pub(crate) fn full_answer(identity: &Identity<'_>, choices: &[Choice], usage: Usage) -> Vec<u8> {
    let choices = choices.iter().enumerate().map(|(index, choice)| choice.to_value(index, identity.shape));
    to_json(&FullAnswer { head: identity.head(false), choices: choices.collect(), usage })
}

impl Choice {
    /// Adds a part of the answer.
    pub(crate) fn add(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text.push_str(&text),
            Part::Call(mut call) => {
                // Only the parts of a stream are numbered.
                call.as_object_mut().map(|call| call.remove("index"));
                self.tool_calls.push(call);
            }
        }
    }

    /// Adds what was held back, and why it ended.
    pub(crate) fn end(&mut self, tools: &mut ToolReader, call: &str, index: usize, reason: FinishReason) {
        tools.finish(call, index).into_iter().for_each(|part| self.add(part));
        self.finish_reason = tools.reason(index, reason.as_str());
    }

    fn to_value(&self, index: usize, shape: Shape) -> Value {
        let mut value = match shape {
            Shape::Chat => {
                let mut message = json!({ "role": "assistant", "content": self.text, "refusal": null });
                if !self.tool_calls.is_empty() {
                    message["tool_calls"] = self.tool_calls.clone().into();
                    if self.text.is_empty() {
                        message["content"] = Value::Null;
                    }
                }
                json!({ "message": message })
            }
            Shape::Text | Shape::Embedding(_) => json!({ "text": self.text }),
        };
        value["index"] = index.into();
        value["logprobs"] = logprobs(shape, &self.logprobs, &mut 0);
        value["finish_reason"] = self.finish_reason.into();
        value
    }
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these structs have string keys only")
}

#[cfg(test)]
mod tests {
    use super::super::logprobs::sample;
    use super::*;

    #[test]
    fn whole_answers() {
        for shape in [Shape::Chat, Shape::Text] {
            let identity = Identity { shape, call: "0abc", created_s: 1_700_000_000, model: "demo" };
            let plain = Choice { text: "Hi".into(), finish_reason: "length", ..Choice::default() };
            let told = Choice {
                text: "Hi\u{fffd}".into(),
                logprobs: sample(),
                finish_reason: "stop",
                ..Choice::default()
            };
            let bytes = full_answer(&identity, &[plain, told], Usage::of(ReceiptView::sample(), 4));
            let value: Value = serde_json::from_slice(&bytes).expect("JSON");
            insta::assert_json_snapshot!(format!("whole_{shape:?}"), value);
        }
    }
}
