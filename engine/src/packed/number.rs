//! The ways in which single numbers are stored.

use super::isa::{LANES, Simd, f16_to_f32};

/// How a number is stored.
pub(crate) trait Number: Send + Sync {
    /// Its bits.
    type Bits: Copy + Default + Send + Sync;
    /// Bytes that it takes.
    const BYTES: usize;

    /// The number at `at` in a file.
    fn at(file: &[u8], at: usize) -> Self::Bits;
    /// Its value.
    fn value(bits: Self::Bits) -> f32;
    /// Sixteen values from memory.
    fn load<S: Simd>(simd: S, bits: &[Self::Bits; LANES]) -> S::F32;
}

/// IEEE single precision.
pub(crate) struct Single;
/// IEEE half precision.
pub(crate) struct Half;
/// The upper half of single precision.
pub(crate) struct Brain;

impl Number for Single {
    type Bits = f32;
    const BYTES: usize = 4;

    fn at(file: &[u8], at: usize) -> f32 {
        f32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]])
    }

    fn value(bits: f32) -> f32 {
        bits
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, bits: &[f32; LANES]) -> S::F32 {
        simd.load(bits)
    }
}

impl Number for Half {
    type Bits = u16;
    const BYTES: usize = 2;

    fn at(file: &[u8], at: usize) -> u16 {
        u16::from_le_bytes([file[at], file[at + 1]])
    }

    fn value(bits: u16) -> f32 {
        f16_to_f32(bits)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, bits: &[u16; LANES]) -> S::F32 {
        simd.load_f16(bits)
    }
}

impl Number for Brain {
    type Bits = u16;
    const BYTES: usize = 2;

    fn at(file: &[u8], at: usize) -> u16 {
        u16::from_le_bytes([file[at], file[at + 1]])
    }

    fn value(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, bits: &[u16; LANES]) -> S::F32 {
        simd.load_bf16(bits)
    }
}

/// A number that can be written, too.
pub(crate) trait Storable: Number {
    /// Sixteen values to memory, rounded to nearest even.
    fn store<S: Simd>(simd: S, values: S::F32, to: &mut [Self::Bits; LANES]);
}

impl Storable for Single {
    #[inline(always)]
    fn store<S: Simd>(simd: S, values: S::F32, to: &mut [f32; LANES]) {
        simd.store(values, to);
    }
}

impl Storable for Half {
    #[inline(always)]
    fn store<S: Simd>(simd: S, values: S::F32, to: &mut [u16; LANES]) {
        simd.store_f16(values, to);
    }
}
