//! `POST /v1/completions`, request side.

use serde::Deserialize;
use serde_json::Value;

use super::Ask;
use super::answer::Shape;
use super::chat::{at_least_one, stream_usage};
use super::sampling::{Shared, Stop, StreamOptions, refuse_unless_empty};
use crate::backend::Prompt;
use crate::error::ApiError;

/// OpenAI's default for this endpoint, kept because old clients count on it.
const DEFAULT_MAX_TOKENS: u32 = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionRequest {
    model: String,
    prompt: TextPrompt,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Stop>,
    n: Option<u32>,
    best_of: Option<u32>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<Value>,
    user: Option<String>,
    echo: Option<Value>,
    suffix: Option<Value>,
    logprobs: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "one string, or a list with one string")]
enum TextPrompt {
    One(String),
    Many(Vec<String>),
}

impl CompletionRequest {
    /// Validates everything that does not need the model.
    ///
    /// # Errors
    /// `400` naming the parameter that is out of range or not served.
    pub(crate) fn into_ask(self) -> Result<Ask, ApiError> {
        for (name, value) in [("echo", &self.echo), ("logprobs", &self.logprobs)] {
            refuse_unless_empty(name, value.as_ref())?;
        }
        if !matches!(&self.suffix, None | Some(Value::Null)) {
            return Err(ApiError::unsupported("suffix", "it is not served; leave it out"));
        }
        if self.best_of.unwrap_or(1) != 1 {
            return Err(ApiError::unsupported("best_of", "only best_of = 1 is served"));
        }
        let text = match self.prompt {
            TextPrompt::One(text) => text,
            TextPrompt::Many(texts) => match <[String; 1]>::try_from(texts) {
                Ok([text]) => text,
                Err(texts) => {
                    let message = format!("has {} strings; send one request per prompt", texts.len());
                    return Err(ApiError::unsupported("prompt", message));
                }
            },
        };
        let stream = self.stream.unwrap_or(false);
        let stream_usage = stream_usage(self.stream_options, stream)?;
        let user = self.user.clone();
        let (sampling, stop) = Shared {
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            stop: self.stop,
            n: self.n,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias,
            user: self.user,
        }
        .sampling()?;
        Ok(Ask {
            model: self.model,
            prompt: Prompt::Text(text),
            sampling,
            stop,
            max_tokens: at_least_one("max_tokens", self.max_tokens)?.or(Some(DEFAULT_MAX_TOKENS)),
            stream,
            stream_usage,
            shape: Shape::Text,
            user,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn ask(body: &str) -> Result<Ask, ApiError> {
        parse::<CompletionRequest>(body.as_bytes())?.into_ask()
    }

    #[test]
    fn one_prompt_is_taken_in_either_form() {
        for prompt in [r#""a""#, r#"["a"]"#] {
            let ask = ask(&format!(r#"{{"model":"m","prompt":{prompt}}}"#)).expect(prompt);
            assert_eq!(ask.prompt, Prompt::Text("a".into()));
            assert_eq!(ask.max_tokens, Some(16));
        }
        for prompt in [r#"["a","b"]"#, "[1,2]", "[]"] {
            let error = ask(&format!(r#"{{"model":"m","prompt":{prompt}}}"#)).expect_err(prompt);
            assert_eq!(error.param().as_deref(), Some("prompt"), "{prompt}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (extra, name) in
            [(r#""echo":true"#, "echo"), (r#""suffix":"x""#, "suffix"), (r#""best_of":2"#, "best_of")]
        {
            let error = ask(&format!(r#"{{"model":"m","prompt":"a",{extra}}}"#)).expect_err(extra);
            assert_eq!(error.param().as_deref(), Some(name));
        }
    }
}
