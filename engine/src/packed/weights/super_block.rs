//! Q4_K and Q6_K: blocks of 256 weights whose parts have small integer scales under one scale of the whole.
//!
//! The integer scales multiply the exact integer dot products, so that each block of 32 is rounded once.

use super::tile::{Nibbles, Tile, dot_nibbles, nibble, put_nibble, u16_at};
use crate::packed::activations::{BLOCK, Forms, Panel};
use crate::packed::isa::{LANES, Simd, f16_to_f32};

const BYTES: Forms = Forms { bytes: true, wide: false, floats: false };

/// w = d · s · q - n · m, with s and m integers of 6 bits for each 32 inputs.
#[repr(C, align(64))]
pub(crate) struct Q4K {
    scales: [u16; LANES],
    minima: [u16; LANES],
    parts: [Q4KPart; 8],
}

#[repr(C)]
struct Q4KPart {
    scales: [u8; LANES],
    minima: [u8; LANES],
    nibbles: Nibbles,
}

impl Q4KPart {
    fn pack(outputs: &[&[u8]; LANES], part: usize) -> Self {
        let mut nibbles = [[0; 64]; 4];
        for (output, file) in outputs.iter().enumerate() {
            let from = 16 + part / 2 * BLOCK;
            for (input, byte) in file[from..from + BLOCK].iter().enumerate() {
                put_nibble(
                    &mut nibbles,
                    output,
                    input,
                    if part.is_multiple_of(2) { byte & 15 } else { byte >> 4 },
                );
            }
        }
        let packed = outputs.map(|file| scale_and_minimum(&file[4..16], part));
        Self { scales: packed.map(|(scale, _)| scale), minima: packed.map(|(_, minimum)| minimum), nibbles }
    }
}

/// Eight scales and eight minima of 6 bits in 12 bytes: the first four of each whole, the rest in pieces.
fn scale_and_minimum(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let low = packed[part + 4];
    ((low & 15) | (packed[part - 4] >> 6) << 4, (low >> 4) | (packed[part] >> 6) << 4)
}

impl Tile for Q4K {
    const BLOCKS: usize = 8;
    const FILE_BYTES: usize = 144;
    const FORMS: Forms = BYTES;

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        Self {
            scales: outputs.map(|file| u16_at(file, 0)),
            minima: outputs.map(|file| u16_at(file, 2)),
            parts: std::array::from_fn(|part| Q4KPart::pack(outputs, part)),
        }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        let (scale, minimum) = (f16_to_f32(self.scales[output]), f16_to_f32(self.minima[output]));
        for (part, weights) in self.parts.iter().zip(weights.chunks_exact_mut(BLOCK)) {
            let scale = scale * f32::from(part.scales[output]);
            let minimum = minimum * f32::from(part.minima[output]);
            for (input, weight) in weights.iter_mut().enumerate() {
                *weight = scale * f32::from(nibble(&part.nibbles, output, input)) - minimum;
            }
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
        let (scales, minima) = (simd.load_f16(&self.scales), simd.load_f16(&self.minima));
        for (index, part) in self.parts.iter().enumerate() {
            let dots = dot_nibbles(simd, &part.nibbles, &x.bytes[block + index]);
            let (part_scales, part_minima) = (simd.load_u8(&part.scales), simd.load_u8(&part.minima));
            let x = &x.scales[block + index];
            for row in 0..M {
                let dot = simd.mul_i32(dots[row], part_scales);
                let sum = simd.mul_i32(part_minima, simd.splat_i32(x[row].sum()));
                let scale = simd.mul(scales, simd.splat(x[row].scale));
                let minimum = simd.mul(minima, simd.splat(-x[row].scale));
                sums[row] = simd.fma(scale, simd.to_f32(dot), sums[row]);
                sums[row] = simd.fma(minimum, simd.to_f32(sum), sums[row]);
            }
        }
    }
}

/// w = d · s · (q - 32), with s an integer of 8 bits for each 16 inputs.
#[repr(C, align(32))]
pub(crate) struct Q6K {
    scales: [u16; LANES],
    parts: [Q6KPart; 8],
}

/// Bits 4 and 5 are in planes: of input i of output c, they are bits 2 · (i / 4 % 4) and the next of byte
/// 4c + i % 4 of plane i / 16.
#[repr(C)]
struct Q6KPart {
    scales: [[i8; LANES]; 2],
    planes: [[u8; 64]; 2],
    nibbles: Nibbles,
}

impl Q6KPart {
    fn pack(outputs: &[&[u8]; LANES], part: usize) -> Self {
        let (mut planes, mut nibbles) = ([[0; 64]; 2], [[0; 64]; 4]);
        for (output, file) in outputs.iter().enumerate() {
            // Of 128 weights: 64 bytes with the lower halves of parts 0 and 1, the upper ones of 2 and 3;
            // 32 bytes with two bits for each of the four.
            let (half, quarter) = (part / 4, part % 4);
            let low = &file[64 * half + 32 * (quarter % 2)..][..BLOCK];
            let high = &file[128 + 32 * half..][..BLOCK];
            for input in 0..BLOCK {
                put_nibble(&mut nibbles, output, input, low[input] >> (4 * (quarter / 2)));
                let bits = (high[input] >> (2 * quarter)) & 3;
                planes[input / 16][4 * output + input % 4] |= bits << (2 * (input / 4 % 4));
            }
        }
        let scales = [0, 1].map(|half| outputs.map(|file| file[192 + 2 * part + half] as i8));
        Self { scales, planes, nibbles }
    }

    fn weight(&self, output: usize, input: usize) -> u8 {
        let bits = (self.planes[input / 16][4 * output + input % 4] >> (2 * (input / 4 % 4))) & 3;
        nibble(&self.nibbles, output, input) | bits << 4
    }

    /// Adds the dot products of one group of eight inputs; the bits of its plane start at `LOW` and `HIGH`.
    #[inline(always)]
    fn dot_group<S: Simd, const M: usize, const LOW: u32, const HIGH: u32>(
        &self,
        simd: S,
        group: usize,
        x: &[[i32; 8]; M],
        sums: &mut [S::I32; M],
    ) {
        let (bytes, plane) =
            (simd.load_bytes(&self.nibbles[group]), simd.load_bytes(&self.planes[group / 2]));
        let low = simd.with_plane::<LOW, 2>(simd.low_nibbles(bytes), plane);
        let high = simd.with_plane::<HIGH, 2>(simd.high_nibbles(bytes), plane);
        for row in 0..M {
            let dots = simd.dot(simd.no_products(), low, x[row][2 * group]);
            let dots = simd.dot(dots, high, x[row][2 * group + 1]);
            sums[row] = simd.add_i32(sums[row], simd.total(dots));
        }
    }
}

impl Tile for Q6K {
    const BLOCKS: usize = 8;
    const FILE_BYTES: usize = 210;
    const FORMS: Forms = BYTES;

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        Self {
            scales: outputs.map(|file| u16_at(file, 208)),
            parts: std::array::from_fn(|part| Q6KPart::pack(outputs, part)),
        }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        let scale = f16_to_f32(self.scales[output]);
        for (part, weights) in self.parts.iter().zip(weights.chunks_exact_mut(BLOCK)) {
            for (input, weight) in weights.iter_mut().enumerate() {
                let scale = scale * f32::from(part.scales[input / 16][output]);
                *weight = scale * (f32::from(part.weight(output, input)) - 32.0);
            }
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
        let scales = simd.load_f16(&self.scales);
        for (index, part) in self.parts.iter().enumerate() {
            let (bytes, x) = (&x.bytes[block + index], &x.scales[block + index]);
            let (mut first, mut second) = ([simd.splat_i32(0); M], [simd.splat_i32(0); M]);
            for row in 0..M {
                first[row] = simd.splat_i32(-32 * x[row].sums[0]);
                second[row] = simd.splat_i32(-32 * x[row].sums[1]);
            }
            part.dot_group::<S, M, 0, 2>(simd, 0, bytes, &mut first);
            part.dot_group::<S, M, 4, 6>(simd, 1, bytes, &mut first);
            part.dot_group::<S, M, 0, 2>(simd, 2, bytes, &mut second);
            part.dot_group::<S, M, 4, 6>(simd, 3, bytes, &mut second);
            let (first_scales, second_scales) =
                (simd.load_i8(&part.scales[0]), simd.load_i8(&part.scales[1]));
            for row in 0..M {
                let first = simd.mul_i32(first[row], first_scales);
                let dot = simd.add_i32(first, simd.mul_i32(second[row], second_scales));
                let scale = simd.mul(scales, simd.splat(x[row].scale));
                sums[row] = simd.fma(scale, simd.to_f32(dot), sums[row]);
            }
        }
    }
}
