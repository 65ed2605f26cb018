//! Penalties and bias: what changes logits before a token is chosen.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::Sampling;

/// What one request changes in its logits, and the tokens that it has seen.
#[derive(Debug)]
pub(super) struct Adjustments {
    repetition: f32,
    presence: f32,
    frequency: f32,
    bias: Vec<(u32, f32)>,
    /// Tokens of the prompt; kept only for the repetition penalty.
    prompt: HashSet<u32>,
    /// How often each token was generated; kept only for penalties.
    generated: HashMap<u32, u32>,
}

impl Adjustments {
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let repeats = sampling.repetition_penalty != 1.0;
        Self {
            repetition: sampling.repetition_penalty,
            presence: sampling.presence_penalty,
            frequency: sampling.frequency_penalty,
            bias: sampling.logit_bias.clone(),
            prompt: if repeats { prompt.iter().copied().collect() } else { HashSet::new() },
            generated: HashMap::new(),
        }
    }

    /// Takes note of a token of the answer.
    pub(super) fn note(&mut self, token: u32) {
        if self.penalise() {
            *self.generated.entry(token).or_default() += 1;
        }
    }

    /// The logits to choose from.
    pub(super) fn apply<'a>(&self, logits: &'a [f32]) -> Cow<'a, [f32]> {
        if !self.penalise() && self.bias.is_empty() {
            return Cow::Borrowed(logits);
        }
        let mut logits = logits.to_vec();
        if self.repetition != 1.0 {
            let ungenerated = self.prompt.iter().filter(|token| !self.generated.contains_key(token));
            for token in ungenerated.chain(self.generated.keys()) {
                change(&mut logits, *token, |logit| {
                    if logit > 0.0 { logit / self.repetition } else { logit * self.repetition }
                });
            }
        }
        for (token, times) in &self.generated {
            let penalty = self.presence + self.frequency * *times as f32;
            change(&mut logits, *token, |logit| logit - penalty);
        }
        for (token, bias) in &self.bias {
            change(&mut logits, *token, |logit| logit + bias);
        }
        Cow::Owned(logits)
    }

    fn penalise(&self) -> bool {
        self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0
    }
}

/// Tokens of a prompt may lie in a padding that has no logits.
fn change(logits: &mut [f32], token: u32, by: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = by(*logit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(sampling: &Sampling, prompt: &[u32], generated: &[u32]) -> Vec<f32> {
        let mut adjustments = Adjustments::new(sampling, prompt);
        for token in generated {
            adjustments.note(*token);
        }
        adjustments.apply(&[2.0, -2.0, 1.0, 0.5]).into_owned()
    }

    #[test]
    fn repetition_counts_prompt_and_answer_once_and_always_lowers() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(adjusted(&sampling, &[0, 0, 9], &[1, 1, 0]), [1.0, -4.0, 1.0, 0.5]);
    }

    #[test]
    fn presence_counts_once_and_frequency_each_time_and_neither_counts_the_prompt() {
        let presence = Sampling { presence_penalty: 0.5, ..Sampling::default() };
        assert_eq!(adjusted(&presence, &[0], &[2, 2]), [2.0, -2.0, 0.5, 0.5]);
        let frequency = Sampling { frequency_penalty: 0.5, ..Sampling::default() };
        assert_eq!(adjusted(&frequency, &[0], &[2, 2]), [2.0, -2.0, 0.0, 0.5]);
    }

    #[test]
    fn a_bias_is_added_and_ids_beyond_the_logits_are_none() {
        let sampling =
            Sampling { logit_bias: vec![(3, 100.0), (0, -100.0), (77, 1.0)], ..Sampling::default() };
        assert_eq!(adjusted(&sampling, &[], &[]), [-98.0, -2.0, 1.0, 100.5]);
    }

    #[test]
    fn nothing_is_copied_for_nothing() {
        let adjustments = Adjustments::new(&Sampling::default(), &[1]);
        assert!(matches!(adjustments.apply(&[1.0]), Cow::Borrowed(_)));
    }
}
