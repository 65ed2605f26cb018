//! Choosing the next token.

mod adjust;
mod logprobs;
mod narrow;

use adjust::Adjustments;
pub(crate) use logprobs::Distribution;
use narrow::{Narrowing, pick, sum};

use crate::packed::{Weights, largest};
use crate::{Sampling, TokenMask};

/// Chooses the tokens of one answer. The n-th choice depends on the seed, the tokens before it and the logits alone, so it
/// does not matter what else runs at the time.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    adjustments: Adjustments,
    narrowing: Narrowing,
    seed: u64,
    drawn: u64,
}

impl Sampler {
    /// For an answer to `prompt`. `seed` stands for the request's, which may have none.
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32], seed: u64) -> Self {
        Self {
            temperature: sampling.temperature,
            adjustments: Adjustments::new(sampling, prompt),
            narrowing: Narrowing::new(sampling),
            seed,
            drawn: 0,
        }
    }

    /// The next token, one of `allowed` if that is given; `None` if no logit of these is a finite number, which means that
    /// the model is broken.
    pub(crate) fn next(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Option<u32> {
        let token = self.choose(logits, allowed)?;
        self.adjustments.note(token);
        Some(token)
    }

    fn choose(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Option<u32> {
        let mut logits = self.adjustments.apply(logits);
        if let Some(allowed) = allowed {
            forbid_others(logits.to_mut(), allowed);
        }
        let best = argmax(&logits)?;
        if self.temperature == 0.0 {
            return Some(best as u32);
        }
        let weights = Weights::new(&logits, logits[best], self.temperature);
        let point = uniform(self.seed, self.drawn);
        self.drawn += 1;
        if self.narrowing.keeps_all() {
            return weights.pick(point * weights.total);
        }
        let kept = self.narrowing.keep(&weights);
        pick(&kept, point * sum(&kept))
    }
}

/// Leaves only what is allowed.
fn forbid_others(logits: &mut [f32], allowed: &TokenMask) {
    let words = allowed.words().iter().copied().chain(std::iter::repeat(0));
    for (logits, word) in logits.chunks_mut(32).zip(words).filter(|(_, word)| *word != u32::MAX) {
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// A number in [0, 1): SplitMix64 (Steele, Lea, Flood 2014) of `seed` at `position`.
fn uniform(seed: u64, position: u64) -> f64 {
    let mut mixed = seed.wrapping_add((position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The first of the largest finite logits.
fn argmax(logits: &[f32]) -> Option<usize> {
    let best = largest(logits);
    if best.is_finite() {
        return logits.iter().position(|logit| *logit == best);
    }
    let finite = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite());
    let best = finite.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(&Sampling { temperature, top_p, ..Sampling::default() }, &[], seed)
    }

    fn draw(sampler: &mut Sampler, logits: &[f32], times: usize) -> Vec<u32> {
        (0..times).map(|_| sampler.next(logits, None).expect("finite logits")).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_ignores_what_is_not_finite() {
        let logits = [1.0, f32::NAN, 3.0, 3.0, f32::INFINITY];
        assert_eq!(sampler(0.0, 1.0, 1).next(&logits, None), Some(2));
        assert_eq!(sampler(0.0, 1.0, 1).next(&[f32::NAN, f32::NEG_INFINITY], None), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_another_does_not() {
        let logits: Vec<f32> = (0..100).map(|token| (token % 7) as f32 / 3.0).collect();
        let first = draw(&mut sampler(1.0, 0.95, 7), &logits, 50);
        assert_eq!(first, draw(&mut sampler(1.0, 0.95, 7), &logits, 50));
        assert_ne!(first, draw(&mut sampler(1.0, 0.95, 8), &logits, 50));
    }

    #[test]
    fn top_p_leaves_out_the_tail() {
        // Probabilities 0.5, 0.25, 0.125, 0.125: 0.7 needs the first two.
        let logits = [4.0_f32.ln(), 2.0_f32.ln(), 0.0, 0.0];
        let drawn = draw(&mut sampler(1.0, 0.7, 3), &logits, 500);
        assert!(drawn.iter().all(|token| *token < 2), "{drawn:?}");
        assert!(drawn.contains(&0) && drawn.contains(&1));
    }

    #[test]
    fn frequencies_follow_the_distribution_and_temperature_sharpens_it() {
        let logits = [4.0_f32.ln(), 2.0_f32.ln(), 0.0, 0.0];
        let share = |temperature| {
            let drawn = draw(&mut sampler(temperature, 1.0, 11), &logits, 4_000);
            drawn.iter().filter(|token| **token == 0).count() as f64 / 4_000.0
        };
        assert!((share(1.0) - 0.5).abs() < 0.03, "{}", share(1.0));
        // Squared weights 16 : 4 : 1 : 1.
        assert!((share(0.5) - 16.0 / 22.0).abs() < 0.03, "{}", share(0.5));
    }

    #[test]
    fn a_tiny_top_p_is_greedy() {
        let logits = [0.0, 2.0, 1.0];
        assert_eq!(draw(&mut sampler(1.5, 1e-6, 5), &logits, 20), vec![1; 20]);
    }

    #[test]
    fn a_penalty_follows_what_was_chosen() {
        let sampling = Sampling { frequency_penalty: 0.4, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(&sampling, &[], 0);
        assert_eq!(draw(&mut sampler, &[1.0, 0.5, 0.0], 6), [0, 0, 1, 0, 1, 2]);
    }

    #[test]
    fn top_k_of_one_is_greedy_at_any_temperature() {
        let sampling = Sampling { temperature: 2.0, top_k: 1, ..Sampling::default() };
        assert_eq!(draw(&mut Sampler::new(&sampling, &[], 4), &[0.0, 0.1, 0.2], 20), [2; 20]);
    }
}
