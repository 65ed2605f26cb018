//! The parameters that chat and text completions share.

use dividend_engine::Sampling;
use serde::Deserialize;
use serde_json::Value;

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

/// Shared parameters, moved out of a request for one common validation.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub seed: Option<i64>,
    pub stop: Option<Stop>,
    pub n: Option<u32>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub logit_bias: Option<Value>,
    pub user: Option<String>,
}

impl Shared {
    /// Checks ranges and refuses, by name, what cannot be honoured.
    pub(crate) fn sampling(self) -> Result<(Sampling, Vec<String>), ApiError> {
        if self.n.unwrap_or(1) != 1 {
            return Err(ApiError::unsupported("n", "only n = 1 is served; send one request per choice"));
        }
        for (name, value) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            if value.unwrap_or(0.0) != 0.0 {
                return Err(ApiError::unsupported(name, "penalties are not served; leave it out or send 0"));
            }
        }
        refuse_unless_empty("logit_bias", self.logit_bias.as_ref())?;
        if let Some(user) = self.user.as_ref().filter(|user| user.len() > MAX_USER_BYTES) {
            let message = format!("is {} bytes long; at most {MAX_USER_BYTES} are taken", user.len());
            return Err(ApiError::invalid("user", message));
        }
        let sampling = Sampling {
            temperature: in_range("temperature", self.temperature, 0.0, 2.0)?,
            top_p: in_range("top_p", self.top_p, SMALLEST_TOP_P, 1.0)?,
            // A negative seed is as good as any other: the bits are what count.
            seed: self.seed.map(i64::cast_unsigned),
        };
        Ok((sampling, stops(self.stop)?))
    }
}

/// A number that must lie in a closed range; 1 when it is not given. Written so that NaN fails.
fn in_range(name: &'static str, value: Option<f64>, low: f64, high: f64) -> Result<f32, ApiError> {
    let value = value.unwrap_or(1.0);
    if (low..=high).contains(&value) {
        return Ok(value as f32);
    }
    Err(ApiError::invalid(name, format!("is {value}; it must be {low} to {high}")))
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

    #[test]
    fn ranges_are_closed_and_nan_is_outside() {
        assert!(Shared { temperature: Some(2.0), ..Shared::default() }.sampling().is_ok());
        assert!(Shared { temperature: Some(0.0), ..Shared::default() }.sampling().is_ok());
        for bad in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
            let error =
                Shared { temperature: Some(bad), ..Shared::default() }.sampling().expect_err("refused");
            assert_eq!(error.param().as_deref(), Some("temperature"));
        }
        for bad in [0.0, 1.1, f64::NAN] {
            assert!(Shared { top_p: Some(bad), ..Shared::default() }.sampling().is_err());
        }
    }

    #[test]
    fn stops_are_few_and_not_empty() {
        let five = Stop::Many(vec!["a".into(); 5]);
        assert!(Shared { stop: Some(five), ..Shared::default() }.sampling().is_err());
        assert!(Shared { stop: Some(Stop::One(String::new())), ..Shared::default() }.sampling().is_err());
        let sampling = Shared { stop: Some(Stop::One("a".into())), ..Shared::default() }.sampling();
        assert_eq!(sampling.expect("one stop").1, ["a"]);
    }

    #[test]
    fn the_user_field_and_penalties_are_bounded() {
        let long =
            Shared { user: Some("x".repeat(257)), ..Shared::default() }.sampling().expect_err("too long");
        assert_eq!(long.param().as_deref(), Some("user"));
        let penalty =
            Shared { presence_penalty: Some(0.5), ..Shared::default() }.sampling().expect_err("refused");
        assert_eq!(penalty.param().as_deref(), Some("presence_penalty"));
        assert!(Shared { presence_penalty: Some(0.0), ..Shared::default() }.sampling().is_ok());
    }
}
