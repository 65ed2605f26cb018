//! What a request may ask for.

use std::collections::HashSet;

use super::Scheduler;
use crate::{Adapter, GenerateRequest, Sampling, SubmitError};

/// Most stop strings of a request, and their length in bytes.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
const MAX_STOP_TOKENS: usize = 64;
const MAX_BIASES: usize = 1_024;
/// Most alternatives told beside a token.
const MAX_TOP_LOGPROBS: usize = 20;

impl Scheduler {
    /// Refuses what can never be honoured, by field; only the lengths are not looked at.
    pub(crate) fn check(&self, request: &GenerateRequest) -> Result<(), SubmitError> {
        // One request must not take every place.
        let most_choices = (self.limits.max_sequences / 2).max(1);
        if request.prompt.is_empty() {
            return Err(invalid("prompt", "empty".to_owned(), "at least one token"));
        }
        self.check_ids("prompt", request.prompt.iter())?;
        if request.max_tokens == 0 {
            return Err(invalid("max_tokens", "0".to_owned(), "at least 1"));
        }
        if !(1..=most_choices).contains(&request.choices) {
            return Err(invalid("n", request.choices.to_string(), &format!("from 1 to {most_choices}")));
        }
        if let Some(top) = request.logprobs.filter(|top| *top > MAX_TOP_LOGPROBS) {
            return Err(invalid("top_logprobs", top.to_string(), &format!("from 0 to {MAX_TOP_LOGPROBS}")));
        }
        check_stops(&request.stop)?;
        at_most("stop_token_ids", request.stop_tokens.len(), MAX_STOP_TOKENS)?;
        self.check_ids("stop_token_ids", request.stop_tokens.iter())?;
        self.check_adapter(request.adapter.as_ref())?;
        check_ranges(&request.sampling)?;
        self.check_bias(&request.sampling.logit_bias)
    }

    /// Refuses what does not fit the context.
    pub(super) fn check_length(&self, request: &GenerateRequest) -> Result<(), SubmitError> {
        let (prompt_tokens, max_tokens) = (request.prompt.len(), request.max_tokens);
        let context_length = self.limits.context_length;
        if prompt_tokens.saturating_add(max_tokens) > context_length {
            return Err(SubmitError::PromptTooLong { prompt_tokens, max_tokens, context_length });
        }
        Ok(())
    }

    fn check_ids<'a>(
        &self,
        field: &'static str,
        mut ids: impl Iterator<Item = &'a u32>,
    ) -> Result<(), SubmitError> {
        match ids.find(|token| **token as usize >= self.vocabulary_size) {
            Some(token) => {
                let expected = format!("of token ids below {}", self.vocabulary_size);
                Err(invalid(field, format!("holding {token}"), &expected))
            }
            None => Ok(()),
        }
    }

    fn check_adapter(&self, adapter: Option<&Adapter>) -> Result<(), SubmitError> {
        let Some(adapter) = adapter.filter(|adapter| self.adapter_base != Some(*adapter.base())) else {
            return Ok(());
        };
        let expected = match self.adapter_base {
            Some(_) => "one that was loaded for this model",
            None => "absent: the candle backend has none",
        };
        Err(invalid("adapter", format!("{:?}", adapter.info().name), expected))
    }

    fn check_bias(&self, biases: &[(u32, f32)]) -> Result<(), SubmitError> {
        let field = "logit_bias";
        at_most(field, biases.len(), MAX_BIASES)?;
        self.check_ids(field, biases.iter().map(|(token, _)| token))?;
        if let Some((token, bias)) = biases.iter().find(|(_, bias)| !(-100.0..=100.0).contains(bias)) {
            return Err(invalid(field, format!("{bias} for token {token}"), "from -100 to 100"));
        }
        let mut seen = HashSet::with_capacity(biases.len());
        match biases.iter().find(|(token, _)| !seen.insert(token)) {
            Some((token, _)) => Err(invalid(field, format!("given twice for token {token}"), "given once")),
            None => Ok(()),
        }
    }
}

/// Each written so that NaN is refused.
fn check_ranges(sampling: &Sampling) -> Result<(), SubmitError> {
    let ranges = [
        ("temperature", sampling.temperature, 0.0, 2.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
    ];
    for (field, found, low, high) in ranges {
        if !(low..=high).contains(&found) {
            return Err(invalid(field, found.to_string(), &format!("from {low} to {high}")));
        }
    }
    for (field, found, high) in
        [("top_p", sampling.top_p, 1.0), ("repetition_penalty", sampling.repetition_penalty, 10.0)]
    {
        if !(found > 0.0 && found <= high) {
            return Err(invalid(field, found.to_string(), &format!("above 0, up to {high}")));
        }
    }
    Ok(())
}

fn check_stops(stops: &[String]) -> Result<(), SubmitError> {
    at_most("stop", stops.len(), MAX_STOPS)?;
    match stops.iter().map(String::len).find(|length| !(1..=MAX_STOP_BYTES).contains(length)) {
        Some(length) => {
            let expected = format!("of 1 to {MAX_STOP_BYTES} bytes each");
            Err(invalid("stop", format!("holding a text of {length} bytes"), &expected))
        }
        None => Ok(()),
    }
}

fn at_most(field: &'static str, found: usize, limit: usize) -> Result<(), SubmitError> {
    if found <= limit {
        return Ok(());
    }
    Err(invalid(field, format!("a list of {found}"), &format!("a list of at most {limit}")))
}

fn invalid(field: &'static str, found: String, expected: &str) -> SubmitError {
    SubmitError::Invalid { field, found, expected: expected.to_owned() }
}
