//! `POST /v1/completions`, request side.

use serde::Deserialize;
use serde_json::Value;

use super::parameters::{body, refuse_unless_empty};
use super::{Ask, Shape};
use crate::backend::Prompt;
use crate::error::ApiError;

/// OpenAI's default for this endpoint, kept because old clients count on it.
const DEFAULT_MAX_TOKENS: u32 = 16;
/// As many as the engine tells; OpenAI's own limit is lower.
const MAX_LOGPROBS: u32 = 20;

body! {
    /// The body of a text completion.
    pub(crate) struct CompletionRequest {
        prompt: WirePrompt,
        best_of: Option<u32>,
        echo: Option<Value>,
        suffix: Option<Value>,
        logprobs: Option<u32>,
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "one string, a list with one string, or one list of token ids")]
enum WirePrompt {
    One(String),
    Tokens(Vec<u32>),
    Many(Vec<String>),
    ManyTokens(Vec<Vec<u32>>),
}

impl WirePrompt {
    fn into_prompt(self) -> Result<Prompt, ApiError> {
        let count = match self {
            Self::One(text) => return Ok(Prompt::Text(text)),
            Self::Tokens(tokens) if !tokens.is_empty() => return Ok(Prompt::Tokens(tokens)),
            Self::Tokens(_) => 0,
            Self::Many(texts) => match <[String; 1]>::try_from(texts) {
                Ok([text]) => return Ok(Prompt::Text(text)),
                Err(texts) => texts.len(),
            },
            Self::ManyTokens(lists) => match <[Vec<u32>; 1]>::try_from(lists) {
                Ok([tokens]) => return Ok(Prompt::Tokens(tokens)),
                Err(lists) => lists.len(),
            },
        };
        Err(ApiError::unsupported("prompt", format!("it has {count} prompts; send one request per prompt")))
    }
}

impl CompletionRequest {
    /// Validates everything that does not need the model.
    ///
    /// # Errors
    /// `400` naming the parameter that is out of range or not served.
    pub(crate) fn into_ask(mut self) -> Result<Ask, ApiError> {
        refuse_unless_empty("echo", self.echo.as_ref())?;
        if !matches!(&self.suffix, None | Some(Value::Null)) {
            return Err(ApiError::unsupported("suffix", "it is not served; leave it out"));
        }
        if self.best_of.is_some_and(|best_of| best_of != self.n.unwrap_or(1)) {
            return Err(ApiError::unsupported("best_of", "only best_of = n is served"));
        }
        let shared = self.take_shared();
        let mut ask = shared.ask(Shape::Text, self.prompt.into_prompt()?)?;
        if let Some(top) = self.logprobs.filter(|top| *top > MAX_LOGPROBS) {
            return Err(ApiError::invalid("logprobs", format!("is {top}; it must be 0 to {MAX_LOGPROBS}")));
        }
        ask.query.logprobs = self.logprobs.map(|top| top as usize);
        ask.max_tokens = ask.max_tokens.or(Some(DEFAULT_MAX_TOKENS));
        Ok(ask)
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
            assert_eq!(ask.query.prompt, Prompt::Text("a".into()));
            assert_eq!(ask.max_tokens, Some(16));
        }
        for prompt in ["[1,2]", "[[1,2]]"] {
            let ask = ask(&format!(r#"{{"model":"m","prompt":{prompt}}}"#)).expect(prompt);
            assert_eq!(ask.query.prompt, Prompt::Tokens(vec![1, 2]));
        }
        for prompt in [r#"["a","b"]"#, "[[1],[2]]", "[]", "[-1]", r#"[1,"a"]"#, "null"] {
            let error = ask(&format!(r#"{{"model":"m","prompt":{prompt}}}"#)).expect_err(prompt);
            assert_eq!(error.param().as_deref(), Some("prompt"), "{prompt}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (extra, name) in [
            (r#""echo":true"#, "echo"),
            (r#""suffix":"x""#, "suffix"),
            (r#""best_of":2"#, "best_of"),
            (r#""logprobs":21"#, "logprobs"),
        ] {
            let error = ask(&format!(r#"{{"model":"m","prompt":"a",{extra}}}"#)).expect_err(extra);
            assert_eq!(error.param().as_deref(), Some(name));
        }
    }
}
