//! Q4_0, Q4_1 and Q5_0: blocks of 32 weights of 4 or 5 bits under one scale.

use super::tile::{Nibbles, Tile, dot_nibbles, nibble, put_nibble, u16_at};
use crate::packed::activations::{BLOCK, Forms, Panel};
use crate::packed::isa::{LANES, Simd, f16_to_f32};

const BYTES: Forms = Forms { bytes: true, wide: false, floats: false };

/// w = d · (q - 8)
#[repr(C, align(32))]
pub(crate) struct Q4_0 {
    scales: [u16; LANES],
    nibbles: Nibbles,
}

impl Tile for Q4_0 {
    const BLOCKS: usize = 1;
    const FILE_BYTES: usize = 18;
    const FORMS: Forms = BYTES;

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        Self { scales: outputs.map(|bytes| u16_at(bytes, 0)), nibbles: nibbles(outputs, 2) }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        let scale = f16_to_f32(self.scales[output]);
        for (input, weight) in weights.iter_mut().enumerate() {
            *weight = scale * (f32::from(nibble(&self.nibbles, output, input)) - 8.0);
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
        let dots = dot_nibbles(simd, &self.nibbles, &x.bytes[block]);
        let scales = simd.load_f16(&self.scales);
        for row in 0..M {
            let x = &x.scales[block][row];
            let dot = simd.add_i32(dots[row], simd.splat_i32(-8 * x.sum()));
            let scale = simd.mul(scales, simd.splat(x.scale));
            sums[row] = simd.fma(scale, simd.to_f32(dot), sums[row]);
        }
    }
}

/// w = d · q + m
#[repr(C, align(64))]
pub(crate) struct Q4_1 {
    scales: [u16; LANES],
    minima: [u16; LANES],
    nibbles: Nibbles,
}

impl Tile for Q4_1 {
    const BLOCKS: usize = 1;
    const FILE_BYTES: usize = 20;
    const FORMS: Forms = BYTES;

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        Self {
            scales: outputs.map(|bytes| u16_at(bytes, 0)),
            minima: outputs.map(|bytes| u16_at(bytes, 2)),
            nibbles: nibbles(outputs, 4),
        }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        let (scale, minimum) = (f16_to_f32(self.scales[output]), f16_to_f32(self.minima[output]));
        for (input, weight) in weights.iter_mut().enumerate() {
            *weight = scale * f32::from(nibble(&self.nibbles, output, input)) + minimum;
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
        let dots = dot_nibbles(simd, &self.nibbles, &x.bytes[block]);
        let (scales, minima) = (simd.load_f16(&self.scales), simd.load_f16(&self.minima));
        for row in 0..M {
            let x = &x.scales[block][row];
            let scale = simd.mul(scales, simd.splat(x.scale));
            sums[row] = simd.fma(scale, simd.to_f32(dots[row]), sums[row]);
            sums[row] = simd.fma(minima, simd.splat(x.scaled_sum), sums[row]);
        }
    }
}

/// w = d · (q - 16). The fifth bits are in a plane: input i of output c is bit i / 4 of byte 4c + i % 4.
#[repr(C, align(32))]
pub(crate) struct Q5_0 {
    scales: [u16; LANES],
    plane: [u8; 64],
    nibbles: Nibbles,
}

impl Q5_0 {
    /// The dot products of one group of eight inputs, whose fifth bits are `LOW` and `HIGH` of the plane.
    #[inline(always)]
    fn dot_group<S: Simd, const M: usize, const LOW: u32, const HIGH: u32>(
        &self,
        simd: S,
        x: &[[i32; 8]; M],
        sums: &mut [S::Partial; M],
    ) {
        let (bytes, plane) = (simd.load_bytes(&self.nibbles[LOW as usize / 2]), simd.load_bytes(&self.plane));
        let low = simd.with_plane::<LOW, 1>(simd.low_nibbles(bytes), plane);
        let high = simd.with_plane::<HIGH, 1>(simd.high_nibbles(bytes), plane);
        for row in 0..M {
            sums[row] = simd.dot(sums[row], low, x[row][LOW as usize]);
            sums[row] = simd.dot(sums[row], high, x[row][HIGH as usize]);
        }
    }
}

impl Tile for Q5_0 {
    const BLOCKS: usize = 1;
    const FILE_BYTES: usize = 22;
    const FORMS: Forms = BYTES;

    fn pack(outputs: &[&[u8]; LANES]) -> Self {
        let mut plane = [0; 64];
        for (output, bytes) in outputs.iter().enumerate() {
            let fifth = u32::from(u16_at(bytes, 2)) | u32::from(u16_at(bytes, 4)) << 16;
            for input in 0..BLOCK {
                plane[4 * output + input % 4] |= ((fifth >> input) as u8 & 1) << (input / 4);
            }
        }
        Self { scales: outputs.map(|bytes| u16_at(bytes, 0)), plane, nibbles: nibbles(outputs, 6) }
    }

    fn unpack(&self, output: usize, weights: &mut [f32]) {
        let scale = f16_to_f32(self.scales[output]);
        for (input, weight) in weights.iter_mut().enumerate() {
            let fifth = (self.plane[4 * output + input % 4] >> (input / 4)) & 1;
            *weight = scale * (f32::from(nibble(&self.nibbles, output, input) | fifth << 4) - 16.0);
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
        let bytes = &x.bytes[block];
        let (mut first, mut second) = ([simd.no_products(); M], [simd.no_products(); M]);
        self.dot_group::<S, M, 0, 1>(simd, bytes, &mut first);
        self.dot_group::<S, M, 2, 3>(simd, bytes, &mut first);
        self.dot_group::<S, M, 4, 5>(simd, bytes, &mut second);
        self.dot_group::<S, M, 6, 7>(simd, bytes, &mut second);
        let scales = simd.load_f16(&self.scales);
        for row in 0..M {
            let x = &x.scales[block][row];
            let dot = simd.add_i32(simd.total(first[row]), simd.total(second[row]));
            let dot = simd.add_i32(dot, simd.splat_i32(-16 * x.sum()));
            let scale = simd.mul(scales, simd.splat(x.scale));
            sums[row] = simd.fma(scale, simd.to_f32(dot), sums[row]);
        }
    }
}

/// The file keeps inputs i and i + 16 in the halves of byte `from` + i.
fn nibbles(outputs: &[&[u8]; LANES], from: usize) -> Nibbles {
    let mut nibbles = [[0; 64]; 4];
    for (output, bytes) in outputs.iter().enumerate() {
        for (input, byte) in bytes[from..from + 16].iter().enumerate() {
            put_nibble(&mut nibbles, output, input, byte & 15);
            put_nibble(&mut nibbles, output, input + 16, byte >> 4);
        }
    }
    nibbles
}
