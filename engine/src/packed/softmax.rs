//! Weights of logits, for choosing among them: some tens of microseconds for a large vocabulary, and equal to the bit on
//! every instruction set.

use super::isa::{Dispatch, Isa, Kernel, LANES, Simd};
use super::math;

/// The largest logit; not finite if one of them is not, or if there are none.
pub(crate) fn largest(logits: &[f32]) -> f32 {
    // The instruction set that was detected is there.
    Isa::detect().dispatch(Largest(logits)).unwrap_or(f32::NAN)
}

/// Weights of tokens, and their sums by sixteen.
pub(crate) struct Weights {
    weights: Vec<f32>,
    sums: Vec<f32>,
    /// Of all.
    pub(crate) total: f64,
}

impl Weights {
    /// e^((logit − best) / temperature) of each logit; 0 of one that is not finite.
    pub(crate) fn new(logits: &[f32], best: f32, temperature: f32) -> Self {
        let mut weights = logits.to_vec();
        weights.resize(logits.len().next_multiple_of(LANES), f32::NEG_INFINITY);
        let mut sums = vec![0.0; weights.len() / LANES];
        let weigh = Weigh { weights: &mut weights, sums: &mut sums, best, temperature };
        // The instruction set that was detected is there.
        let _ = Isa::detect().dispatch(weigh);
        weights.truncate(logits.len());
        let total = sums.iter().copied().map(f64::from).sum();
        Self { weights, sums, total }
    }

    /// Each token's, by id.
    pub(crate) fn all(&self) -> &[f32] {
        &self.weights
    }

    /// The token at which the weights, added up by id, pass `point`, which is below the total.
    pub(crate) fn pick(&self, mut point: f64) -> Option<u32> {
        let heavy = |weight: &f32| *weight > 0.0;
        let (mut last, mut start) = (None, 0);
        for (chunk, sum) in self.weights.chunks(LANES).zip(&self.sums) {
            if point >= f64::from(*sum) {
                point -= f64::from(*sum);
                last = chunk.iter().rposition(heavy).map(|at| start + at).or(last);
            } else {
                for (at, weight) in chunk.iter().enumerate().filter(|(_, weight)| heavy(weight)) {
                    last = Some(start + at);
                    point -= f64::from(*weight);
                    if point < 0.0 {
                        break;
                    }
                }
                break;
            }
            start += LANES;
        }
        last.map(|token| token as u32)
    }
}

struct Largest<'a>(&'a [f32]);

impl Dispatch for Largest<'_> {
    type Output = f32;

    fn call<S: Simd>(self, simd: S) -> f32 {
        simd.run(self)
    }
}

impl<S: Simd> Kernel<S> for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self, simd: S) -> f32 {
        let (whole, rest) = self.0.as_chunks::<LANES>();
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let mut largest = simd.load(&last);
        // Of a number that is not finite times zero, nothing but that remains.
        let mut broken = simd.sub(simd.splat(0.0), simd.splat(0.0));
        for logits in whole {
            let logits = simd.load(logits);
            largest = simd.max(largest, logits);
            broken = simd.fma(logits, simd.splat(0.0), broken);
        }
        simd.largest(largest) + simd.sum(broken)
    }
}

struct Weigh<'a> {
    weights: &'a mut [f32],
    sums: &'a mut [f32],
    best: f32,
    temperature: f32,
}

impl Dispatch for Weigh<'_> {
    type Output = ();

    fn call<S: Simd>(self, simd: S) {
        simd.run(self);
    }
}

impl<S: Simd> Kernel<S> for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let (best, temperature) = (simd.splat(self.best), simd.splat(self.temperature));
        for (weights, sum) in self.weights.as_chunks_mut::<LANES>().0.iter_mut().zip(self.sums) {
            let logits = *weights;
            let scaled = simd.div(simd.sub(simd.load(&logits), best), temperature);
            simd.store(math::exp(simd, scaled), weights);
            for (weight, logit) in weights.iter_mut().zip(logits) {
                *weight = if logit.is_finite() { *weight } else { 0.0 };
            }
            *sum = simd.sum(simd.load(weights));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Vec<f32> {
        (0..37).map(|index| (index * 17 % 37) as f32 / 3.0).collect()
    }

    #[test]
    fn weights_are_powers_of_e_and_what_is_not_finite_weighs_nothing() {
        let mut logits = logits();
        logits[5] = f32::NAN;
        logits[36] = f32::INFINITY;
        let weights = Weights::new(&logits, 12.0, 0.5);
        let mut total = 0.0;
        for (index, (weight, logit)) in weights.all().iter().zip(&logits).enumerate() {
            let expected = if logit.is_finite() { ((f64::from(*logit) - 12.0) / 0.5).exp() } else { 0.0 };
            assert!((f64::from(*weight) - expected).abs() <= 1e-6 * expected, "{index}: {weight} {expected}");
            total += expected;
        }
        assert!((weights.total - total).abs() < 1e-5 * total);
    }

    #[test]
    fn the_largest_is_told_and_so_is_a_number_that_is_none() {
        assert_eq!(largest(&logits()), 12.0);
        assert_eq!(largest(&[-3.0]), -3.0);
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = logits();
            logits[7] = broken;
            assert!(!largest(&logits).is_finite(), "{broken}");
        }
        assert!(!largest(&[]).is_finite());
    }

    #[test]
    fn points_fall_on_tokens_by_weight() {
        let logits = logits();
        let weights = Weights::new(&logits, 12.0, 1.0);
        let mut sum = 0.0;
        for (token, weight) in weights.all().iter().enumerate() {
            let middle = sum + f64::from(*weight) / 2.0;
            assert_eq!(weights.pick(middle), Some(token as u32));
            sum += f64::from(*weight);
        }
        assert_eq!(weights.pick(weights.total), Some(36), "rounding may pass the end");
    }
}
