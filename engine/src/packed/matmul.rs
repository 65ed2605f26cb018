//! Products of packed weights with rows of activations.
//!
//! A product is the sum over blocks of 32 inputs in ascending order, each added by one or two fused
//! multiply-adds; inside a block the sum is of integers and exact (of floats: in ascending order, one fused
//! multiply-add each). So the result for a row is the same in any panel and on any instruction set.

use super::activations::PanelRef;
use super::isa::{LANES, PanelKernel, Simd};
use super::weights::{Matrix, Tile, with_tiles};

/// Sixteen outputs of each row of a panel.
pub(crate) type Outputs = [[f32; LANES]; 8];

/// Computes the 16 outputs of `column` for each row of `panel`, into the first rows of `outputs`.
pub(crate) fn product<S: Simd>(
    simd: S,
    matrix: &Matrix,
    column: usize,
    panel: &PanelRef<'_, S>,
    outputs: &mut Outputs,
) {
    with_tiles!(matrix.tiles(), tiles => {
        let length = tiles.len() / matrix.columns();
        let tiles = &tiles[column * length..][..length];
        simd.run_panel(panel.rows, Product { tiles, panel, outputs });
    });
}

struct Product<'a, S: Simd, T> {
    tiles: &'a [T],
    panel: &'a PanelRef<'a, S>,
    outputs: &'a mut Outputs,
}

impl<S: Simd, T: Tile> PanelKernel<S> for Product<'_, S, T> {
    #[inline(always)]
    fn run<const M: usize>(self, simd: S) {
        let x = self.panel.by_blocks::<M>();
        let mut sums = [simd.splat(0.0); M];
        for (index, tile) in self.tiles.iter().enumerate() {
            tile.accumulate(simd, &x, index * T::BLOCKS, &mut sums);
        }
        for (sum, output) in sums.into_iter().zip(self.outputs) {
            simd.store(sum, output);
        }
    }
}
