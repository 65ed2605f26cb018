//! The small computations between products.

use crate::packed::architecture::Activation;
use crate::packed::isa::{Kernel, LANES, Simd};
use crate::packed::kv::POSITIONS;
use crate::packed::math;
use crate::packed::number::Storable;

/// x / √(mean x² + ε) · gain, in place.
pub(super) struct Normalise<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) gain: &'a [f32],
    pub(super) epsilon: f32,
}

impl<S: Simd> Kernel<S> for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let count = self.values.len() as f32;
        let values = self.values.as_chunks_mut::<LANES>().0;
        let mut squares = simd.splat(0.0);
        for value in values.iter() {
            let value = simd.load(value);
            squares = simd.fma(value, value, squares);
        }
        let factor = simd.splat(1.0 / (simd.sum(squares) / count + self.epsilon).sqrt());
        for (value, gain) in values.iter_mut().zip(self.gain.as_chunks().0) {
            let scaled = simd.mul(simd.load(value), factor);
            simd.store(simd.mul(scaled, simd.load(gain)), value);
        }
    }
}

/// Activation(gate) · up, into the gates.
pub(super) struct Gate<'a> {
    pub(super) gates: &'a mut [[f32; LANES]],
    pub(super) ups: &'a [[f32; LANES]],
    pub(super) activation: Activation,
}

impl<S: Simd> Kernel<S> for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        for (gate, up) in self.gates.iter_mut().zip(self.ups) {
            let bent = match self.activation {
                Activation::Silu => math::silu(simd, simd.load(gate)),
                Activation::Gelu => math::gelu(simd, simd.load(gate)),
            };
            simd.store(simd.mul(bent, simd.load(up)), gate);
        }
    }
}

/// cap · tanh(x / cap), in place.
pub(super) struct SoftCap<'a> {
    pub(super) values: &'a mut [[f32; LANES]],
    pub(super) cap: f32,
}

impl<S: Simd> Kernel<S> for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        for value in self.values {
            simd.store(math::soft_cap(simd, simd.load(value), self.cap), value);
        }
    }
}

/// Puts one head's key and value of one position into its block.
pub(super) struct Remember<'a, N: Storable> {
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    /// Keys, then values.
    pub(super) block: &'a mut [[N::Bits; LANES]],
    /// Which of the block's positions it is.
    pub(super) position: usize,
}

impl<S: Simd, N: Storable> Kernel<S> for Remember<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let (keys, values) = self.block.split_at_mut(self.key.len());
        let (keys, values) = (keys.as_chunks_mut::<LANES>().0, values.as_chunks_mut::<POSITIONS>().0);
        for (lanes, to) in self.key.as_chunks().0.iter().zip(keys) {
            let mut key = [N::Bits::default(); LANES];
            N::store(simd, simd.load(lanes), &mut key);
            for (key, column) in key.into_iter().zip(to) {
                column[self.position] = key;
            }
        }
        for (lanes, to) in self.value.as_chunks().0.iter().zip(values) {
            N::store(simd, simd.load(lanes), &mut to[self.position]);
        }
    }
}
