//! The parameters that chat and text completions share.

use std::collections::BTreeMap;

use dividend_engine::Sampling;
use serde::Deserialize;
use serde_json::Value;

use super::form::StructuredOutputs;
use super::{Ask, Shape, StreamUsage};
use crate::backend::{Prompt, Query};
use crate::error::ApiError;

/// How many stop strings a request may carry, as in OpenAI's API.
const MAX_STOPS: usize = 4;
/// The longest stop string taken, in bytes; each is searched for after every token.
const MAX_STOP_BYTES: usize = 256;
const MAX_USER_BYTES: usize = 256;
/// Below this a nucleus holds the single likeliest token; 0 itself is not a probability mass.
const SMALLEST_TOP_P: f64 = 1e-6;

/// `stop` is a string or a list of strings.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub(crate) enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
    #[serde(default)]
    pub continuous_usage_stats: bool,
}

/// Declares a request body: its own fields and, beside them, those that every generating endpoint has, which
/// `take_shared` moves out for one common validation. (serde cannot both flatten a struct and refuse unknown fields.)
macro_rules! body {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $vis struct $name {
            $($(#[$attribute])* $field: $type,)*
            model: String,
            stream: Option<bool>,
            stream_options: Option<$crate::openai::parameters::StreamOptions>,
            max_tokens: Option<u32>,
            n: Option<u32>,
            temperature: Option<f64>,
            top_k: Option<i64>,
            min_p: Option<f64>,
            top_p: Option<f64>,
            repetition_penalty: Option<f64>,
            presence_penalty: Option<f64>,
            frequency_penalty: Option<f64>,
            logit_bias: Option<std::collections::BTreeMap<String, f64>>,
            seed: Option<i64>,
            stop: Option<$crate::openai::parameters::Stop>,
            stop_token_ids: Option<Vec<u32>>,
            structured_outputs: Option<$crate::openai::form::StructuredOutputs>,
            user: Option<String>,
        }

        impl $name {
            fn take_shared(&mut self) -> $crate::openai::parameters::Shared {
                $crate::openai::parameters::Shared {
                    model: std::mem::take(&mut self.model),
                    stream: self.stream.take(),
                    stream_options: self.stream_options.take(),
                    max_tokens: self.max_tokens.take(),
                    n: self.n.take(),
                    temperature: self.temperature.take(),
                    top_k: self.top_k.take(),
                    min_p: self.min_p.take(),
                    top_p: self.top_p.take(),
                    repetition_penalty: self.repetition_penalty.take(),
                    presence_penalty: self.presence_penalty.take(),
                    frequency_penalty: self.frequency_penalty.take(),
                    logit_bias: self.logit_bias.take(),
                    seed: self.seed.take(),
                    stop: self.stop.take(),
                    stop_token_ids: self.stop_token_ids.take(),
                    structured_outputs: self.structured_outputs.take(),
                    user: self.user.take(),
                }
            }
        }
    };
}
pub(crate) use body;

/// What both endpoints take, under OpenAI's names; `top_k`, `min_p`, `repetition_penalty`,
/// `stop_token_ids` and `structured_outputs` under vLLM's.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub model: String,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    pub max_tokens: Option<u32>,
    pub n: Option<u32>,
    pub temperature: Option<f64>,
    pub top_k: Option<i64>,
    pub min_p: Option<f64>,
    pub top_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub logit_bias: Option<BTreeMap<String, f64>>,
    pub seed: Option<i64>,
    pub stop: Option<Stop>,
    pub stop_token_ids: Option<Vec<u32>>,
    pub structured_outputs: Option<StructuredOutputs>,
    pub user: Option<String>,
}

impl Shared {
    /// Checks ranges and refuses, by name, what cannot be honoured. The rest of the ask is the endpoint's own.
    pub(crate) fn ask(self, shape: Shape, prompt: Prompt) -> Result<Ask, ApiError> {
        let sampling = self.sampling()?;
        check_user(self.user.as_deref())?;
        let stream = self.stream.unwrap_or(false);
        Ok(Ask {
            model: self.model,
            query: Query {
                prompt,
                sampling,
                choices: at_least_one("n", self.n)?.unwrap_or(1) as usize,
                logprobs: None,
                stop: stops(self.stop)?,
                stop_tokens: self.stop_token_ids.unwrap_or_default(),
                form: self.structured_outputs.map(StructuredOutputs::form).transpose()?,
            },
            max_tokens: at_least_one("max_tokens", self.max_tokens)?,
            stream,
            stream_usage: stream_usage(self.stream_options, stream)?,
            shape,
            user: self.user,
        })
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        Ok(Sampling {
            temperature: in_range("temperature", self.temperature, 1.0, 0.0, 2.0)?,
            top_k: top_k(self.top_k)?,
            min_p: in_range("min_p", self.min_p, 0.0, 0.0, 1.0)?,
            top_p: in_range("top_p", self.top_p, 1.0, SMALLEST_TOP_P, 1.0)?,
            repetition_penalty: in_range("repetition_penalty", self.repetition_penalty, 1.0, 0.01, 10.0)?,
            presence_penalty: in_range("presence_penalty", self.presence_penalty, 0.0, -2.0, 2.0)?,
            frequency_penalty: in_range("frequency_penalty", self.frequency_penalty, 0.0, -2.0, 2.0)?,
            logit_bias: logit_bias(self.logit_bias.as_ref())?,
            // A negative seed is as good as any other: the bits are what count.
            seed: self.seed.map(i64::cast_unsigned),
        })
    }
}

/// The caller's own name for its end user ends up in logs.
pub(super) fn check_user(user: Option<&str>) -> Result<(), ApiError> {
    match user.filter(|user| user.len() > MAX_USER_BYTES) {
        Some(user) => {
            let message = format!("is {} bytes long; at most {MAX_USER_BYTES} are taken", user.len());
            Err(ApiError::invalid("user", message))
        }
        None => Ok(()),
    }
}

/// A number that must lie in a closed range. Written so that NaN fails.
fn in_range(
    name: &'static str,
    value: Option<f64>,
    default: f32,
    low: f64,
    high: f64,
) -> Result<f32, ApiError> {
    match value {
        None => Ok(default),
        Some(value) if (low..=high).contains(&value) => Ok(value as f32),
        Some(value) => Err(ApiError::invalid(name, format!("is {value}; it must be {low} to {high}"))),
    }
}

/// 0 and -1 keep all tokens, as in vLLM.
fn top_k(value: Option<i64>) -> Result<u32, ApiError> {
    match value {
        None | Some(-1) => Ok(0),
        Some(value) => u32::try_from(value).map_err(|_| {
            ApiError::invalid(
                "top_k",
                format!("is {value}; it must be at least 1, or 0 or -1 for all tokens"),
            )
        }),
    }
}

/// Token ids are an object's keys, so they come as text.
fn logit_bias(biases: Option<&BTreeMap<String, f64>>) -> Result<Vec<(u32, f32)>, ApiError> {
    let bias = |(token, bias): (&String, &f64)| {
        let param = format!("logit_bias.{token}");
        let id = token.parse::<u32>().map_err(|_| ApiError::invalid(&param, "is no token id"))?;
        if !(-100.0..=100.0).contains(bias) {
            return Err(ApiError::invalid(param, format!("is {bias}; it must be -100 to 100")));
        }
        Ok((id, *bias as f32))
    };
    biases.into_iter().flatten().map(bias).collect()
}

fn stops(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(Stop::One(one)) => vec![one],
        Some(Stop::Many(many)) => many,
    };
    if stops.len() > MAX_STOPS {
        let message = format!("has {} strings; at most {MAX_STOPS} are taken", stops.len());
        return Err(ApiError::invalid("stop", message));
    }
    if let Some(bad) = stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
        let message = format!("has a string of {} bytes; 1 to {MAX_STOP_BYTES} are taken", bad.len());
        return Err(ApiError::invalid("stop", message));
    }
    Ok(stops)
}

/// A limit of zero asks for nothing and is refused.
pub(super) fn at_least_one(name: &'static str, limit: Option<u32>) -> Result<Option<u32>, ApiError> {
    if limit == Some(0) {
        return Err(ApiError::invalid(name, "is 0; at least 1 must be asked for"));
    }
    Ok(limit)
}

/// `stream_options` has no meaning without `stream`, and OpenAI refuses it there.
fn stream_usage(options: Option<StreamOptions>, stream: bool) -> Result<StreamUsage, ApiError> {
    let Some(options) = options else { return Ok(StreamUsage::Never) };
    if !stream {
        return Err(ApiError::invalid("stream_options", "is only taken together with \"stream\": true"));
    }
    match (options.include_usage, options.continuous_usage_stats) {
        (false, false) => Ok(StreamUsage::Never),
        (true, false) => Ok(StreamUsage::AtEnd),
        (true, true) => Ok(StreamUsage::Always),
        (false, true) => Err(ApiError::invalid(
            "stream_options.continuous_usage_stats",
            "is only taken together with \"include_usage\": true",
        )),
    }
}

/// Accepts a parameter that asks for nothing (absent, null, false, empty) and refuses it otherwise.
pub(crate) fn refuse_unless_empty(name: &'static str, value: Option<&Value>) -> Result<(), ApiError> {
    let empty = match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    };
    if empty { Ok(()) } else { Err(ApiError::unsupported(name, "it is not served; leave it out")) }
}

/// Accepts one of the values that mean the default, and refuses any other by name.
pub(crate) fn refuse_unless_one_of(
    name: &'static str,
    value: Option<&Value>,
    accepted: &[&str],
) -> Result<(), ApiError> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) if accepted.contains(&text.as_str()) => Ok(()),
        Some(_) => Err(ApiError::unsupported(name, format!("only {} is served", accepted.join(" or ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(shared: Shared) -> Result<Query, ApiError> {
        shared.ask(Shape::Text, Prompt::Text("a".into())).map(|ask| ask.query)
    }

    fn refused(shared: Shared) -> String {
        ask(shared).expect_err("refused").param().expect("a parameter")
    }

    #[test]
    fn ranges_are_closed_and_nan_is_outside() {
        assert!(ask(Shared { temperature: Some(2.0), ..Shared::default() }).is_ok());
        assert!(ask(Shared { temperature: Some(0.0), ..Shared::default() }).is_ok());
        for bad in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(Shared { temperature: Some(bad), ..Shared::default() }), "temperature");
        }
        for bad in [0.0, 1.1, f64::NAN] {
            assert_eq!(refused(Shared { top_p: Some(bad), ..Shared::default() }), "top_p");
        }
        assert_eq!(refused(Shared { min_p: Some(1.5), ..Shared::default() }), "min_p");
        assert_eq!(refused(Shared { presence_penalty: Some(2.5), ..Shared::default() }), "presence_penalty");
        assert_eq!(
            refused(Shared { repetition_penalty: Some(0.0), ..Shared::default() }),
            "repetition_penalty"
        );
    }

    #[test]
    fn stops_are_few_and_not_empty() {
        let five = Stop::Many(vec!["a".into(); 5]);
        assert_eq!(refused(Shared { stop: Some(five), ..Shared::default() }), "stop");
        assert_eq!(refused(Shared { stop: Some(Stop::One(String::new())), ..Shared::default() }), "stop");
        let one = Shared { stop: Some(Stop::One("a".into())), ..Shared::default() };
        assert_eq!(ask(one).expect("one stop").stop, ["a"]);
    }

    #[test]
    fn the_user_field_is_bounded_and_zero_choices_are_refused() {
        assert_eq!(refused(Shared { user: Some("x".repeat(257)), ..Shared::default() }), "user");
        assert_eq!(refused(Shared { n: Some(0), ..Shared::default() }), "n");
    }

    #[test]
    fn biases_go_by_token_id() {
        let biases = |token: &str, bias| Shared {
            logit_bias: Some(BTreeMap::from([(token.to_owned(), bias)])),
            ..Shared::default()
        };
        let taken = ask(biases("15", -100.0)).expect("in range");
        assert_eq!(taken.sampling.logit_bias, [(15, -100.0)]);
        assert_eq!(refused(biases("word", 1.0)), "logit_bias.word");
        assert_eq!(refused(biases("15", 101.0)), "logit_bias.15");
    }

    #[test]
    fn every_token_is_kept_by_default_and_by_name() {
        for (given, taken) in [(None, 0), (Some(0), 0), (Some(-1), 0), (Some(40), 40)] {
            let query = ask(Shared { top_k: given, ..Shared::default() }).expect("in range");
            assert_eq!(query.sampling.top_k, taken);
        }
        assert_eq!(refused(Shared { top_k: Some(-2), ..Shared::default() }), "top_k");
    }
}
