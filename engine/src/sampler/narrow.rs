//! Which tokens are drawn from.

use std::cmp::Ordering;

use crate::Sampling;
use crate::packed::Weights;

/// A token and its weight.
type Weighed = (u32, f32);

/// What a request leaves out.
#[derive(Debug)]
pub(super) struct Narrowing {
    top_k: usize,
    min_p: f64,
    top_p: f64,
}

impl Narrowing {
    pub(super) fn new(sampling: &Sampling) -> Self {
        let Sampling { top_k, min_p, top_p, .. } = *sampling;
        Self { top_k: top_k as usize, min_p: min_p.into(), top_p: top_p.into() }
    }

    /// True if all tokens are drawn from.
    pub(super) fn keeps_all(&self) -> bool {
        self.top_k == 0 && self.min_p == 0.0 && self.top_p == 1.0
    }

    /// The tokens that are left, in a fixed order. The most likely one weighs 1, and always stays.
    pub(super) fn keep(&self, weights: &Weights) -> Vec<Weighed> {
        let floor = self.min_p.max(self.nucleus_floor(weights));
        let tokens = (0..).zip(weights.all().iter().copied());
        let mut kept: Vec<Weighed> =
            tokens.filter(|(_, weight)| f64::from(*weight) >= floor && *weight > 0.0).collect();
        if self.top_k > 0 && kept.len() > self.top_k {
            kept.select_nth_unstable_by(self.top_k - 1, likelier_first);
            kept.truncate(self.top_k);
        }
        kept.sort_unstable_by(likelier_first);
        if self.top_p < 1.0 {
            let all = self.top_k == 0 && self.min_p == 0.0;
            let total = if all { weights.total } else { sum(&kept) };
            kept.truncate(nucleus(&kept, self.top_p * total));
        }
        kept
    }

    /// One that is less likely than an even share of what `top_p` leaves out cannot be kept, which spares sorting all.
    fn nucleus_floor(&self, weights: &Weights) -> f64 {
        let all = self.top_k == 0 && self.min_p == 0.0;
        let others = weights.all().len().saturating_sub(1).max(1);
        if all { (1.0 - self.top_p) / others as f64 * weights.total } else { 0.0 }
    }
}

/// Equal weights by their ids, so that the order never depends on how they were collected.
fn likelier_first(left: &Weighed, right: &Weighed) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

/// How many of the first sum up to `enough`.
fn nucleus(sorted: &[Weighed], enough: f64) -> usize {
    let mut sum = 0.0;
    let last = sorted.iter().position(|(_, weight)| {
        sum += f64::from(*weight);
        sum >= enough
    });
    last.map_or(sorted.len(), |last| last + 1)
}

/// The sum of all weights.
pub(super) fn sum(weighed: &[Weighed]) -> f64 {
    weighed.iter().map(|(_, weight)| f64::from(*weight)).sum()
}

/// The token at which the weights, added up in order, pass `point`.
pub(super) fn pick(weighed: &[Weighed], mut point: f64) -> Option<u32> {
    let passes = |(_, weight): &&Weighed| {
        point -= f64::from(*weight);
        point < 0.0
    };
    weighed.iter().find(passes).or(weighed.last()).map(|(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(logits: &[f32], top_k: u32, min_p: f32, top_p: f32) -> Vec<u32> {
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        let weights = Weights::new(logits, best, 1.0);
        let sampling = Sampling { top_k, min_p, top_p, ..Sampling::default() };
        Narrowing::new(&sampling).keep(&weights).into_iter().map(|(token, _)| token).collect()
    }

    /// Probabilities 1/8, 1/2, 1/8, 1/4.
    fn logits() -> [f32; 4] {
        [0.0, 4.0_f32.ln(), 0.0, 2.0_f32.ln()]
    }

    #[test]
    fn each_rule_keeps_the_likeliest_and_ties_go_by_id() {
        assert_eq!(kept(&logits(), 0, 0.0, 1.0), [1, 3, 0, 2]);
        assert_eq!(kept(&logits(), 3, 0.0, 1.0), [1, 3, 0]);
        assert_eq!(kept(&logits(), 0, 0.4, 1.0), [1, 3]);
        assert_eq!(kept(&logits(), 0, 1.0, 1.0), [1]);
        assert_eq!(kept(&logits(), 0, 0.0, 0.6), [1, 3]);
        assert_eq!(kept(&logits(), 0, 0.0, 1e-6), [1]);
    }

    #[test]
    fn top_p_is_of_what_the_others_left() {
        // Of 1/2 and 1/4, the first is two thirds.
        assert_eq!(kept(&logits(), 2, 0.0, 0.6), [1]);
        assert_eq!(kept(&logits(), 2, 0.0, 0.7), [1, 3]);
        assert_eq!(kept(&logits(), 0, 0.4, 0.6), [1]);
    }

    proptest! {
        /// The short cuts agree with the plain rules.
        #[test]
        fn rules_hold_on_any_logits(
            logits in prop::collection::vec(-8_i8..8, 1..60),
            top_k in 0_u32..70,
            min_p in prop::sample::select(vec![0.0_f32, 0.01, 0.3]),
            top_p in prop::sample::select(vec![0.1_f32, 0.6, 0.95, 1.0]),
        ) {
            let logits: Vec<f32> = logits.into_iter().map(|logit| f32::from(logit) / 3.0).collect();
            let best = logits.iter().copied().fold(f32::MIN, f32::max);
            let mut plain: Vec<(u32, f64)> =
                (0..).zip(&logits).map(|(token, logit)| (token, f64::from(logit - best).exp())).collect();
            plain.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
            if top_k > 0 {
                plain.truncate(top_k as usize);
            }
            plain.retain(|(_, weight)| *weight >= f64::from(min_p) * (1.0 - 1e-6));
            let total: f64 = plain.iter().map(|(_, weight)| weight).sum();
            let found = kept(&logits, top_k, min_p, top_p);
            let tokens: Vec<u32> = plain.iter().map(|(token, _)| *token).collect();
            prop_assert_eq!(&found[..], &tokens[..found.len()]);
            let mass: f64 = plain[..found.len()].iter().map(|(_, weight)| weight / total).sum();
            let before: f64 = plain[..found.len() - 1].iter().map(|(_, weight)| weight / total).sum();
            prop_assert!(mass >= f64::from(top_p) - 1e-5, "{mass}");
            prop_assert!(found.len() == 1 || before < f64::from(top_p) + 1e-5, "{before}");
        }
    }
}
