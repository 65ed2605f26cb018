//! `POST /v1/chat/completions`, request side.

use dividend_engine::ChatMessage;
use serde::Deserialize;
use serde_json::Value;

use super::form::ResponseFormat;
use super::parameters::{at_least_one, body, refuse_unless_empty, refuse_unless_one_of};
use super::tools::{WireCall, WireChoice};
use super::{Ask, Shape};
use crate::backend::{Conversation, Prompt, ToolChoice};
use crate::error::ApiError;

body! {
    /// The body of a chat completion. A field that is not listed is refused by serde, by name; one that is listed
    /// and cannot be honoured is refused by [`ChatRequest::into_ask`].
    pub(crate) struct ChatRequest {
        messages: Vec<WireMessage>,
        max_completion_tokens: Option<u32>,
        response_format: Option<ResponseFormat>,
        service_tier: Option<Value>,
        modalities: Option<Vec<String>>,
        logprobs: Option<bool>,
        top_logprobs: Option<u32>,
        tools: Option<Vec<Value>>,
        tool_choice: Option<WireChoice>,
        parallel_tool_calls: Option<bool>,
        functions: Option<Value>,
        function_call: Option<Value>,
        reasoning_effort: Option<Value>,
        store: Option<Value>,
        metadata: Option<Value>,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMessage {
    role: WireRole,
    content: Option<Content>,
    name: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
    tool_call_id: Option<String>,
    function_call: Option<Value>,
    refusal: Option<Value>,
    audio: Option<Value>,
    annotations: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of {\"type\":\"text\",\"text\":…} parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl ChatRequest {
    /// Validates everything that does not need the model.
    ///
    /// # Errors
    /// `400` naming the parameter that is out of range or not served.
    pub(crate) fn into_ask(mut self) -> Result<Ask, ApiError> {
        self.refuse_unserved()?;
        self.max_tokens = one_limit(self.max_tokens, self.max_completion_tokens)?;
        if self.messages.is_empty() {
            return Err(ApiError::invalid("messages", "is empty; at least one message is needed"));
        }
        let messages = std::mem::take(&mut self.messages).into_iter().enumerate();
        let messages =
            messages.map(|(index, message)| message.into_message(index)).collect::<Result<Vec<_>, _>>()?;
        let logprobs = self.logprobs()?;
        let form = self.response_format.take().map(ResponseFormat::form).transpose()?.flatten();
        let tools = self.tools.take().unwrap_or_default();
        let tool_choice = self.tool_choice.take().map(WireChoice::choice).transpose()?.unwrap_or_default();
        if tools.is_empty() && matches!(tool_choice, ToolChoice::Required | ToolChoice::Named(_)) {
            return Err(ApiError::invalid("tool_choice", "asks for a call, but there are no tools"));
        }
        let forces_call = matches!(tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let conversation = Conversation { messages, tools, tool_choice };
        let mut ask = self.take_shared().ask(Shape::Chat, Prompt::Chat(conversation))?;
        ask.query.logprobs = logprobs;
        if form.is_some() && ask.query.form.is_some() {
            let message = "is only taken without structured_outputs: one answer has one form";
            return Err(ApiError::invalid("response_format", message));
        }
        ask.query.form = ask.query.form.or(form);
        if let Some(form) = ask.query.form.as_ref().filter(|_| forces_call) {
            return Err(ApiError::invalid(
                form.param,
                "is not taken together with a tool_choice that forces a call",
            ));
        }
        Ok(ask)
    }

    /// How many alternatives are told beside each token; `None` if nothing of the kind is asked for.
    fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (false, Some(1..)) => {
                Err(ApiError::invalid("top_logprobs", "is only taken together with \"logprobs\": true"))
            }
            (false, _) => Ok(None),
            (true, top) => Ok(Some(top.unwrap_or(0) as usize)),
        }
    }

    fn refuse_unserved(&self) -> Result<(), ApiError> {
        for (name, value) in [
            ("functions", &self.functions),
            ("reasoning_effort", &self.reasoning_effort),
            ("store", &self.store),
            ("metadata", &self.metadata),
        ] {
            refuse_unless_empty(name, value.as_ref())?;
        }
        refuse_unless_one_of("function_call", self.function_call.as_ref(), &["none", "auto"])?;
        if self.parallel_tool_calls == Some(false)
            && self.tools.as_ref().is_some_and(|tools| !tools.is_empty())
        {
            let message =
                "a model that may call tools may call several; name one in tool_choice for a single call";
            return Err(ApiError::unsupported("parallel_tool_calls", message));
        }
        refuse_unless_one_of("service_tier", self.service_tier.as_ref(), &["auto", "default"])?;
        match self.modalities.as_deref() {
            None => Ok(()),
            Some([only]) if only == "text" => Ok(()),
            Some(_) => Err(ApiError::unsupported("modalities", "only [\"text\"] is served")),
        }
    }
}

impl WireMessage {
    fn into_message(self, index: usize) -> Result<ChatMessage, ApiError> {
        let param = |field: &str| format!("messages[{index}].{field}");
        for (field, value) in [
            ("function_call", &self.function_call),
            ("audio", &self.audio),
            ("refusal", &self.refusal),
            ("annotations", &self.annotations),
        ] {
            let empty = match value {
                None | Some(Value::Null) => true,
                Some(Value::Array(items)) => items.is_empty(),
                Some(_) => false,
            };
            if !empty {
                return Err(ApiError::unsupported(param(field), "it is not served; leave it out"));
            }
        }
        let role = match self.role {
            WireRole::System | WireRole::Developer => "system",
            WireRole::User => "user",
            WireRole::Assistant => "assistant",
            WireRole::Tool => "tool",
        };
        if role != "assistant" && self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty()) {
            return Err(ApiError::invalid(param("tool_calls"), "are the assistant's only"));
        }
        if (role == "tool") != self.tool_call_id.is_some() {
            return Err(ApiError::invalid(
                param("tool_call_id"),
                "is what a tool's message has, and no other",
            ));
        }
        if role != "tool" && self.name.is_some() {
            return Err(ApiError::unsupported(
                param("name"),
                "only a tool's message has one; put the name into the text",
            ));
        }
        let calls = self.tool_calls.unwrap_or_default().into_iter().enumerate();
        let tool_calls = calls
            .map(|(at, call)| call.into_call(&param(&format!("tool_calls[{at}]"))))
            .collect::<Result<Vec<_>, _>>()?;
        let content = match self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join_parts(parts, index)?,
            None if !tool_calls.is_empty() => String::new(),
            None => return Err(ApiError::invalid(param("content"), "is missing; it must be text")),
        };
        Ok(ChatMessage {
            name: self.name,
            tool_calls,
            tool_call_id: self.tool_call_id,
            ..ChatMessage::new(role, content)
        })
    }
}

fn join_parts(parts: Vec<Part>, index: usize) -> Result<String, ApiError> {
    let mut joined = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        match (part.kind.as_str(), part.text) {
            ("text", Some(text)) => joined.push_str(&text),
            ("text", None) => {
                let param = format!("messages[{index}].content[{at}].text");
                return Err(ApiError::invalid(param, "is missing"));
            }
            (kind, _) => {
                let param = format!("messages[{index}].content[{at}].type");
                return Err(ApiError::unsupported(
                    param,
                    format!("{kind:?} is not served; only \"text\" is"),
                ));
            }
        }
    }
    Ok(joined)
}

/// The two names of one limit; they may both be there if they agree.
fn one_limit(max_tokens: Option<u32>, max_completion_tokens: Option<u32>) -> Result<Option<u32>, ApiError> {
    match (max_tokens, max_completion_tokens) {
        (Some(old), Some(new)) if old != new => Err(ApiError::invalid(
            "max_tokens",
            format!("is {old} while max_completion_tokens is {new}; send one of them"),
        )),
        (old, new) => {
            at_least_one(if new.is_some() { "max_completion_tokens" } else { "max_tokens" }, new.or(old))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn ask(extra: &str) -> Result<Ask, ApiError> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#);
        parse::<ChatRequest>(body.as_bytes())?.into_ask()
    }

    fn refused(extra: &str) -> String {
        let error = ask(extra).expect_err(extra);
        assert_eq!(error.status(), 400, "{extra}");
        error.param().unwrap_or_else(|| panic!("{extra} names no parameter"))
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        let body = r#","tools":[],"logprobs":false,"n":1,"response_format":{"type":"text"},"metadata":null,
            "tool_choice":"none","service_tier":"auto","modalities":["text"],"presence_penalty":0"#;
        assert!(ask(body).is_ok());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (extra, name) in [
            (r#","n":0"#, "n"),
            (r#","n":-1"#, "n"),
            (r#","logprobs":3"#, "logprobs"),
            (r#","top_logprobs":3"#, "top_logprobs"),
            (r#","response_format":{"type":"yaml"}"#, "response_format"),
            (r#","response_format":{"type":"json_schema"}"#, "response_format"),
            (
                r#","response_format":{"type":"json_schema","json_schema":{"schema":{}}}"#,
                "response_format.json_schema.name",
            ),
            (r#","structured_outputs":{}"#, "structured_outputs"),
            (r#","structured_outputs":{"regex":"a","choice":["b"]}"#, "structured_outputs"),
            (r#","structured_outputs":{"grammar":"a"}"#, "structured_outputs.grammar"),
            (r#","logit_bias":{"1":200}"#, "logit_bias.1"),
            (r#","frequency_penalty":3"#, "frequency_penalty"),
            (r#","tool_choice":"required""#, "tool_choice"),
            (r#","tool_choice":"sometimes""#, "tool_choice"),
            (r#","tools":[{}],"parallel_tool_calls":false"#, "parallel_tool_calls"),
            (r#","tools":{}"#, "tools"),
            (r#","no_such_thing":1"#, "no_such_thing"),
            (r#","temperature":3"#, "temperature"),
            (r#","temperature":"hot""#, "temperature"),
            (r#","top_p":0"#, "top_p"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","max_tokens":-1"#, "max_tokens"),
            (r#","max_tokens":1,"max_completion_tokens":2"#, "max_tokens"),
            (r#","stop":["a","b","c","d","e"]"#, "stop"),
            (r#","stream_options":{"include_usage":true}"#, "stream_options"),
            (r#","stream":true,"stream_options":{"other":true}"#, "stream_options.other"),
            (
                r#","stream":true,"stream_options":{"continuous_usage_stats":true}"#,
                "stream_options.continuous_usage_stats",
            ),
        ] {
            assert_eq!(refused(extra), name, "{extra}");
        }
    }

    #[test]
    fn parts_are_joined_and_images_refused() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#;
        let ask = parse::<ChatRequest>(body).and_then(ChatRequest::into_ask).expect("text parts");
        assert_eq!(ask.query.prompt, Prompt::Chat(Conversation::new(vec![ChatMessage::new("user", "ab")])));
        let body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#;
        let error = parse::<ChatRequest>(body).and_then(ChatRequest::into_ask).expect_err("an image");
        assert_eq!(error.param().as_deref(), Some("messages[0].content[0].type"));
    }

    #[test]
    fn what_bends_the_choice_is_taken() {
        let body = r#","n":2,"logprobs":true,"top_logprobs":5,"logit_bias":{"7":-1.5},"frequency_penalty":1,
            "presence_penalty":-1,"top_k":40,"min_p":0.05,"repetition_penalty":1.1,"stop_token_ids":[2]"#;
        let query = ask(body).expect("all served").query;
        assert_eq!((query.choices, query.logprobs, query.stop_tokens), (2, Some(5), vec![2]));
        assert_eq!((query.sampling.top_k, query.sampling.logit_bias), (40, vec![(7, -1.5)]));
        assert_eq!(ask(r#","logprobs":true"#).expect("served").query.logprobs, Some(0));
        assert_eq!(ask(r#","logprobs":false,"top_logprobs":0"#).expect("served").query.logprobs, None);
    }

    #[test]
    fn the_newer_name_of_the_limit_is_taken() {
        assert_eq!(ask(r#","max_completion_tokens":7"#).expect("taken").max_tokens, Some(7));
        assert_eq!(ask(r#","max_completion_tokens":7,"max_tokens":7"#).expect("agree").max_tokens, Some(7));
    }
}
