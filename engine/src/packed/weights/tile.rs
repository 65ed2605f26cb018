//! What all formats of packed weights have in common.

use std::hint::black_box;

use crate::packed::activations::{Forms, Panel};
use crate::packed::isa::{LANES, Simd};

/// The weights of 16 outputs for some blocks of 32 inputs, arranged so that a kernel reads them in order.
pub(crate) trait Tile: Sized + Send + Sync {
    /// Blocks of 32 inputs.
    const BLOCKS: usize;
    /// Bytes that one output's part takes in the file.
    const FILE_BYTES: usize;
    /// The forms of activations that `accumulate` reads.
    const FORMS: Forms;

    /// Arranges the bytes of the file, one slice of `FILE_BYTES` per output. Zero bytes are zero weights.
    fn pack(outputs: &[&[u8]; LANES]) -> Self;

    /// The weights of one output: 32 · `BLOCKS` values.
    fn unpack(&self, output: usize, weights: &mut [f32]);

    /// Adds to `sums`, one vector of 16 outputs per row, the products with the activations from `block` on.
    fn accumulate<S: Simd, const M: usize>(
        &self,
        simd: S,
        x: &Panel<'_, S, M>,
        block: usize,
        sums: &mut [S::F32; M],
    );
}

/// Thirty-two weights of 4 bits for each of 16 outputs: input 8g + j of output c is in byte 4c + j of group
/// g for j < 4, in its lower half; input 8g + 4 + j in its upper half.
pub(crate) type Nibbles = [[u8; 64]; 4];

/// Writes a weight of 4 bits.
pub(crate) fn put_nibble(nibbles: &mut Nibbles, output: usize, input: usize, value: u8) {
    nibbles[input / 8][4 * output + input % 4] |= (value & 15) << (input % 8 / 4 * 4);
}

/// Reads a weight of 4 bits.
pub(crate) fn nibble(nibbles: &Nibbles, output: usize, input: usize) -> u8 {
    (nibbles[input / 8][4 * output + input % 4] >> (input % 8 / 4 * 4)) & 15
}

/// The dot products of weights of 4 bits with one block of each row.
#[inline(always)]
pub(crate) fn dot_nibbles<S: Simd, const M: usize>(
    simd: S,
    nibbles: &Nibbles,
    x: &[[i32; 8]; M],
) -> [S::I32; M] {
    let mut sums = [simd.no_products(); M];
    // Were the number known, the groups would be computed side by side, and run out of registers: a sixth
    // slower on AVX2.
    for group in 0..black_box(4) {
        let bytes = simd.load_bytes(&nibbles[group]);
        let (low, high) = (simd.low_nibbles(bytes), simd.high_nibbles(bytes));
        for row in 0..M {
            sums[row] = simd.dot(sums[row], low, x[row][2 * group]);
            sums[row] = simd.dot(sums[row], high, x[row][2 * group + 1]);
        }
    }
    let mut totals = [simd.splat_i32(0); M];
    for row in 0..M {
        totals[row] = simd.total(sums[row]);
    }
    totals
}

/// Two bytes of the file as an unsigned number.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
