//! Weights of logits, for choosing among them.

use super::isa::{Dispatch, Isa, Kernel, LANES, Simd};
use super::math;

/// Replaces each logit by e^((logit − best) / temperature), equal to the bit on every instruction set. One that is not
/// finite becomes 0.
pub(crate) fn weigh(logits: &mut [f32], best: f32, temperature: f32) {
    let all = Weigh { logits, best, temperature };
    // The instruction set that was detected is there.
    let _ = Isa::detect().dispatch(all);
}

struct Weigh<'a> {
    logits: &'a mut [f32],
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
        let weigh = |logits: &mut [f32; LANES]| {
            let finite = logits.map(f32::is_finite);
            let scaled = simd.div(simd.sub(simd.load(logits), best), temperature);
            simd.store(math::exp(simd, scaled), logits);
            for (weight, finite) in logits.iter_mut().zip(finite) {
                *weight = if finite { *weight } else { 0.0 };
            }
        };
        let (whole, rest) = self.logits.as_chunks_mut::<LANES>();
        whole.iter_mut().for_each(weigh);
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        weigh(&mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_powers_of_e_and_what_is_not_finite_weighs_nothing() {
        let mut logits: Vec<f32> = (0..37).map(|index| index as f32 / 3.0).collect();
        logits[5] = f32::NAN;
        logits[36] = f32::INFINITY;
        let before = logits.clone();
        weigh(&mut logits, 12.0, 0.5);
        for (index, (weight, logit)) in logits.iter().zip(before).enumerate() {
            let expected = if logit.is_finite() { ((f64::from(logit) - 12.0) / 0.5).exp() } else { 0.0 };
            assert!((f64::from(*weight) - expected).abs() <= 1e-6 * expected, "{index}: {weight} {expected}");
        }
    }
}
