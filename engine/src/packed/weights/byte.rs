//! Q8_0: blocks of 32 weights of 8 bits under one scale.

use super::tile::{Tile, u16_at};
use crate::packed::activations::{BLOCK, Forms, Panel};
use crate::packed::isa::{LANES, Simd, f16_to_f32};

/// w = d · (q - 128): stored without a sign, as dot products want it. Input i of output c is byte
/// 4c + i % 4 of group i / 4.
#[repr(C, align(32))]
pub(crate) struct Q8_0 {
    scales: [u16; LANES],
    bytes: [[u8; 64]; 8],
}

impl Tile for Q8_0 {
    const BLOCKS: usize = 1;
    const FILE_BYTES: usize = 34;
    const FORMS: Forms = Forms { bytes: false, wide: true, floats: false };

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        let mut bytes = [[0; 64]; 8];
        for (output, file) in outputs.iter().enumerate() {
            for input in 0..BLOCK {
                bytes[input / 4][4 * output + input % 4] = file[2 + input].wrapping_add(128);
            }
        }
        Self { scales: outputs.map(|bytes| u16_at(bytes, 0)), bytes }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        let scale = f16_to_f32(self.scales[output]);
        for (input, weight) in weights.iter_mut().enumerate() {
            *weight = scale * (f32::from(self.bytes[input / 4][4 * output + input % 4]) - 128.0);
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
        let (wide, scales) = (&x.wide[block], &x.scales[block]);
        let mut dots = [simd.splat_i32(0); M];
        for row in 0..M {
            dots[row] = simd.splat_i32(-128 * scales[row].sum());
        }
        for group in 0..8 {
            let weights = simd.widen(simd.load_bytes(&self.bytes[group]));
            for row in 0..M {
                dots[row] = simd.dot_wide(dots[row], weights, &wide[row], group);
            }
        }
        let weight_scales = simd.load_f16(&self.scales);
        for row in 0..M {
            let scale = simd.mul(weight_scales, simd.splat(scales[row].scale));
            sums[row] = simd.fma(scale, simd.to_f32(dots[row]), sums[row]);
        }
    }
}
