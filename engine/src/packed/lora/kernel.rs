//! The product of a run of columns of a small matrix with a few rows.

use super::matrix::{Column, Columns};
use crate::packed::activations::QuantisedRows;
use crate::packed::isa::{LANES, PanelKernel, Simd};

/// Adds the outputs of some columns to those of as many rows as the panel has.
///
/// A block of 32 inputs is an exact sum of integers, added by one fused multiply-add; blocks go in ascending order. So the
/// result for a row is the same with any rows beside it and on any instruction set.
pub(crate) struct AddProduct<'a, 'b, S: Simd> {
    /// The columns.
    pub(crate) columns: Columns<'a>,
    /// The inputs, the first row of which is multiplied first.
    pub(crate) rows: QuantisedRows<'a, S>,
    /// For each row, the outputs of the columns.
    pub(crate) outputs: &'a mut [&'b mut [[f32; LANES]]],
}

impl<S: Simd> PanelKernel<S> for AddProduct<'_, '_, S> {
    #[inline(always)]
    fn run<const M: usize>(self, simd: S) {
        let outputs = &mut self.outputs[..M];
        for (index, column) in self.columns.enumerate() {
            let mut sums = [simd.splat(0.0); M];
            for row in 0..M {
                sums[row] = simd.load(&outputs[row][index]);
            }
            add(simd, column, &self.rows, &mut sums);
            for row in 0..M {
                simd.store(sums[row], &mut outputs[row][index]);
            }
        }
    }
}

#[inline(always)]
fn add<S: Simd, const M: usize>(
    simd: S,
    column: Column<'_>,
    rows: &QuantisedRows<'_, S>,
    sums: &mut [S::F32; M],
) {
    for (block, (scales, groups)) in column.scales.iter().zip(column.groups.chunks(8)).enumerate() {
        let mut dots = [simd.splat_i32(0); M];
        for (row, dot) in dots.iter_mut().enumerate() {
            *dot = simd.splat_i32(-128 * rows.scale(block, row).sum());
        }
        for (index, group) in groups.iter().enumerate() {
            let weights = simd.widen(simd.load_bytes(&group.0));
            for (row, dot) in dots.iter_mut().enumerate() {
                *dot = simd.dot_wide(*dot, weights, rows.wide(block, row), index);
            }
        }
        let weight_scales = simd.load_bf16(scales);
        for row in 0..M {
            let scale = simd.mul(weight_scales, simd.splat(rows.scale(block, row).scale));
            sums[row] = simd.fma(scale, simd.to_f32(dots[row]), sums[row]);
        }
    }
}
