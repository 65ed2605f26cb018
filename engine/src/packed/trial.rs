//! Trying an instruction set before it is used.
//!
//! Kernels promise the same bits everywhere. A processor, an emulator or a compiler that breaks the promise must cost
//! speed, not answers: what does not compute small samples as plain Rust does is left alone.

use super::activations::{Activations, BLOCK, Panels, QuantiseRow};
use super::isa::{Dispatch, Isa, Kernel, LANES, Simd};
use super::math;
use super::matmul::{Outputs, product};
use super::weights::Matrix;

/// Outputs and inputs of the sample matrices: a padded column, two blocks of the largest kind.
const SHAPE: (usize, usize) = (21, 512);
/// Rows that are multiplied: panels of every size.
const ROWS: usize = 15;
/// Formats by their number in files, with the bytes of one block, its weights, and where its half-precision numbers end.
const FORMATS: [(u32, usize, usize, &[usize]); 9] = [
    (0, 4, 1, &[3]),
    (1, 2, 1, &[1]),
    (2, 18, 32, &[1]),
    (3, 20, 32, &[1, 3]),
    (6, 22, 32, &[1]),
    (8, 34, 32, &[1]),
    (12, 144, 256, &[1, 3]),
    (14, 210, 256, &[209]),
    (30, 2, 1, &[1]),
];

/// Whether this processor computes with `isa` what it computes without.
pub(super) fn passes(isa: Isa) -> bool {
    let elementary = |isa: Isa| isa.dispatch(Elementary).ok();
    if elementary(isa) != elementary(Isa::Portable) {
        return false;
    }
    let x: Vec<f32> = (0..ROWS * SHAPE.1).map(sample).collect();
    FORMATS.iter().all(|(type_id, bytes, weights, halves)| {
        let file = file(SHAPE.0 * SHAPE.1 / weights, *bytes, halves);
        let Ok(matrix) = Matrix::pack("a sample", SHAPE, *type_id, &file, 1) else { return false };
        let products = |isa: Isa| isa.dispatch(Products { matrix: &matrix, x: &x }).ok().map(bits);
        products(isa) == products(Isa::Portable)
    })
}

/// A number from -8 to 8, scattered over the indices.
fn sample(index: usize) -> f32 {
    (index.wrapping_mul(2_654_435_761) % 4_001) as f32 / 250.0 - 8.0
}

/// Blocks of bytes without an infinity or a NaN where there are scales.
fn file(blocks: usize, bytes: usize, halves: &[usize]) -> Vec<u8> {
    let mut file: Vec<u8> =
        (0..blocks * bytes).map(|index| ((index as u32).wrapping_mul(2_654_435_761) >> 21) as u8).collect();
    for block in file.chunks_exact_mut(bytes) {
        halves.iter().for_each(|end| block[*end] &= 0xbf);
    }
    file
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// x · Wᵀ, row by row.
pub(super) struct Products<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) x: &'a [f32],
}

impl Dispatch for Products<'_> {
    type Output = Vec<f32>;

    #[expect(unsafe_code, reason = "the activations are not shared here")]
    fn call<S: Simd>(self, simd: S) -> Vec<f32> {
        let (matrix, blocks, all) = (self.matrix, self.matrix.blocks(), self.matrix.outputs());
        let rows = self.x.len() / (blocks * BLOCK);
        let activations = Activations::<S>::new(rows * blocks, matrix.forms());
        let mut result = vec![0.0; rows * all];
        let panels = Panels::of::<S>(rows);
        for range in (0..panels.count()).map(|index| panels.rows(index)) {
            // SAFETY: there is one thread, and the panel that is written is dropped before it is read.
            let panel = unsafe {
                let mut panel = activations.panel_mut(range.clone(), blocks);
                for row in range.clone() {
                    let values = &self.x[row * blocks * BLOCK..][..blocks * BLOCK];
                    simd.run(QuantiseRow { values, panel: &mut panel, row: row - range.start });
                }
                activations.panel(range.clone(), blocks)
            };
            for output in (0..all).step_by(LANES) {
                let mut outputs = Outputs::default();
                product(simd, matrix, output / LANES, &panel, &mut outputs);
                let count = LANES.min(all - output);
                for (row, values) in range.clone().zip(&outputs) {
                    result[row * all + output..][..count].copy_from_slice(&values[..count]);
                }
            }
        }
        result
    }
}

/// Every operation on floats, as bits.
struct Elementary;

impl Dispatch for Elementary {
    type Output = Vec<u32>;

    fn call<S: Simd>(self, simd: S) -> Vec<u32> {
        simd.run(self)
    }
}

impl<S: Simd> Kernel<S> for Elementary {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run(self, simd: S) -> Vec<u32> {
        let mut found = Vec::new();
        for start in 0..8 {
            let a: [f32; LANES] = std::array::from_fn(|lane| sample(start * LANES + lane));
            let b: [f32; LANES] = std::array::from_fn(|lane| sample(9_000 + start * LANES + lane));
            let (a, b) = (simd.load(&a), simd.load(&b));
            let mut halves = [0; LANES];
            simd.store_f16(a, &mut halves);
            found.extend(halves.map(u32::from));
            let both = [
                simd.add(a, b),
                simd.sub(a, b),
                simd.mul(a, b),
                simd.div(a, b),
                simd.fma(a, b, a),
                simd.max(a, b),
                simd.min(a, b),
                simd.abs(a),
                simd.round(a),
                simd.select(3, 11, a, b),
                simd.load_f16(&halves),
                math::exp(simd, a),
                math::silu(simd, a),
                math::gelu(simd, b),
                math::soft_cap(simd, a, 3.0),
            ];
            for values in both {
                let mut stored = [0.0; LANES];
                simd.store(values, &mut stored);
                found.extend(stored.map(f32::to_bits));
                found.extend([simd.sum(values), simd.largest(values)].map(f32::to_bits));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_processor_has_passes() {
        assert!(passes(Isa::Portable));
        assert!(Isa::ALL.into_iter().filter(|isa| isa.is_available()).all(passes));
    }

    #[test]
    fn samples_tell_products_apart() {
        let x: Vec<f32> = (0..ROWS * SHAPE.1).map(sample).collect();
        for (type_id, bytes, weights, halves) in FORMATS {
            let file = file(SHAPE.0 * SHAPE.1 / weights, bytes, halves);
            let matrix = Matrix::pack("w", SHAPE, type_id, &file, 1).expect("a sound matrix");
            let found = Isa::Portable.dispatch(Products { matrix: &matrix, x: &x }).expect("always there");
            let kinds: std::collections::HashSet<u32> = found.iter().map(|value| value.to_bits()).collect();
            assert!(found.iter().all(|value| value.is_finite()), "format {type_id}");
            assert!(kinds.len() > ROWS * SHAPE.0 / 2, "format {type_id}: {} different results", kinds.len());
        }
    }
}
