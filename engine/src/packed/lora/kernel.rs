//! The product of one column of a small matrix with a few rows.

use super::matrix::Group;
use crate::packed::activations::QuantisedRows;
use crate::packed::isa::{LANES, PanelKernel, Simd};

/// Adds the 16 outputs of a column to `outputs`, for as many rows as the panel has.
///
/// A block of 32 inputs is an exact sum of integers, added by one fused multiply-add; blocks go in ascending order. So the
/// result for a row is the same with any rows beside it and on any instruction set.
pub(crate) struct AddProduct<'a, S: Simd> {
    /// By block.
    pub(crate) scales: &'a [[u16; LANES]],
    /// By input.
    pub(crate) groups: &'a [Group],
    /// The inputs, the first row of which is multiplied first.
    pub(crate) rows: QuantisedRows<'a, S>,
    /// One for each row.
    pub(crate) outputs: &'a mut [[f32; LANES]],
}

impl<S: Simd> PanelKernel<S> for AddProduct<'_, S> {
    #[inline(always)]
    fn run<const M: usize>(self, simd: S) {
        let outputs = &mut self.outputs[..M];
        let mut sums = [simd.splat(0.0); M];
        for row in 0..M {
            sums[row] = simd.load(&outputs[row]);
        }
        for (block, (scales, groups)) in self.scales.iter().zip(self.groups.chunks(8)).enumerate() {
            let mut dots = [simd.splat_i32(0); M];
            for row in 0..M {
                dots[row] = simd.splat_i32(-128 * self.rows.scale(block, row).sum());
            }
            for (index, group) in groups.iter().enumerate() {
                let weights = simd.widen(simd.load_bytes(&group.0));
                for row in 0..M {
                    dots[row] = simd.dot_wide(dots[row], weights, self.rows.wide(block, row), index);
                }
            }
            let weight_scales = simd.load_bf16(scales);
            for row in 0..M {
                let scale = simd.mul(weight_scales, simd.splat(self.rows.scale(block, row).scale));
                sums[row] = simd.fma(scale, simd.to_f32(dots[row]), sums[row]);
            }
        }
        for row in 0..M {
            simd.store(sums[row], &mut outputs[row]);
        }
    }
}
