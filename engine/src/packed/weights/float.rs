//! F32, F16 and BF16: kept as they are; activations are not quantised for them.

use std::marker::PhantomData;

use super::tile::Tile;
use crate::packed::activations::{BLOCK, Forms, Panel};
use crate::packed::isa::{LANES, Simd};
use crate::packed::number::Number;

/// Sixteen outputs of each of 32 inputs.
#[repr(C, align(64))]
pub(crate) struct Floats<N: Number> {
    weights: [[N::Bits; LANES]; BLOCK],
    number: PhantomData<N>,
}

impl<N: Number> Tile for Floats<N> {
    const BLOCKS: usize = 1;
    const FILE_BYTES: usize = BLOCK * N::BYTES;
    const FORMS: Forms = Forms { bytes: false, wide: false, floats: true };

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        let mut weights = [[N::Bits::default(); LANES]; BLOCK];
        for (input, row) in weights.iter_mut().enumerate() {
            *row = outputs.map(|file| N::at(file, input * N::BYTES));
        }
        Self { weights, number: PhantomData }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        for (weight, row) in weights.iter_mut().zip(&self.weights) {
            *weight = N::value(row[output]);
        }
    }

    #[inline(always)]
    fn accumulate<S: Simd, const M: usize>(
        &self,
        simd: S,
        x: &Panel<'_, S, M>,
        block: usize,
        sums: &mut [S::F32; M],
    ) {
        let x = &x.floats[block];
        for (input, weights) in self.weights.iter().enumerate() {
            let weights = N::load(simd, weights);
            for row in 0..M {
                sums[row] = simd.fma(weights, simd.splat(x[row][input]), sums[row]);
            }
        }
    }
}
