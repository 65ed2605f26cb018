//! How likely tokens are.

use crate::packed::Weights;

/// A model's own distribution over the tokens.
pub(crate) struct Distribution<'a> {
    logits: &'a [f32],
    best: f32,
    /// ln Σ e^(logit − best)
    log_total: f64,
}

impl<'a> Distribution<'a> {
    /// Of logits of which at least one is finite.
    pub(crate) fn new(logits: &'a [f32]) -> Option<Self> {
        let best = logits[super::argmax(logits)?];
        let log_total = libm::log(Weights::new(logits, best, 1.0).total);
        Some(Self { logits, best, log_total })
    }

    /// The natural logarithm of a token's probability.
    pub(crate) fn logprob(&self, token: u32) -> f32 {
        match self.logits.get(token as usize) {
            // Rounding may pass certainty.
            Some(logit) if logit.is_finite() => {
                (f64::from(*logit) - f64::from(self.best) - self.log_total).min(0.0) as f32
            }
            _ => f32::NEG_INFINITY,
        }
    }

    /// The most likely tokens, so many, the most likely one first.
    pub(crate) fn top(&self, count: usize) -> Vec<u32> {
        if count == 0 {
            return Vec::new();
        }
        let likelier_first = |left: &u32, right: &u32| {
            let (left_logit, right_logit) = (self.logits[*left as usize], self.logits[*right as usize]);
            right_logit.total_cmp(&left_logit).then(left.cmp(right))
        };
        let mut tokens: Vec<u32> =
            (0..).zip(self.logits).filter(|(_, logit)| logit.is_finite()).map(|(token, _)| token).collect();
        if tokens.len() > count {
            tokens.select_nth_unstable_by(count - 1, likelier_first);
            tokens.truncate(count);
        }
        tokens.sort_unstable_by(likelier_first);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_softmax_and_sum_up_to_one() {
        let logits = [1.0, 3.0, f32::NAN, 3.0, -50.0];
        let distribution = Distribution::new(&logits).expect("finite logits");
        let total: f64 = [0, 1, 3, 4].map(|token| f64::from(distribution.logprob(token)).exp()).iter().sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
        assert!((f64::from(distribution.logprob(1) - distribution.logprob(0)) - 2.0).abs() < 1e-6);
        assert_eq!(distribution.logprob(2), f32::NEG_INFINITY);
        assert_eq!(distribution.logprob(9), f32::NEG_INFINITY);
        assert_eq!(distribution.top(3), [1, 3, 0], "ties go by id");
        assert_eq!(distribution.top(9), [1, 3, 0, 4]);
        assert_eq!(distribution.top(0), [0; 0]);
    }

    #[test]
    fn certainty_is_zero_and_nothing_is_likelier() {
        let distribution = Distribution::new(&[0.0, 200.0]).expect("finite logits");
        assert_eq!(distribution.logprob(1), 0.0);
        assert!(Distribution::new(&[f32::NAN]).is_none());
    }
}
