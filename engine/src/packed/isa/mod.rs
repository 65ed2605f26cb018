//! The instruction sets, behind one small vector type.
//!
//! Every kernel is written once, over [`Simd`]: sixteen lanes of f32 and the integer dot products. Each
//! implementation performs exactly the same IEEE operations in the same order, so that results are equal to
//! the bit: additions, products, quotients and fused multiply-adds round to nearest even; there are no
//! estimates; sums over lanes go through one fixed tree. Integer dot products are exact.
//!
//! An implementation is a token that exists only where its instructions do. That is what makes the methods
//! safe, and this folder the only place with intrinsics.

mod avx2;
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use super::trial;
use crate::EngineError;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use portable::{Portable, f16_to_f32};

/// Lanes of a vector, and columns of a weight tile.
pub(crate) const LANES: usize = 16;

/// An instruction set for which there are kernels. All compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// Plain Rust, on any processor.
    Portable,
}

impl Isa {
    /// All of them, fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The fastest that this processor has, and computes samples with as without. Tried once per process.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let usable = |isa: &Self| {
                isa.is_available()
                    && (*isa == Self::Portable || trial::passes(*isa) || {
                        tracing::warn!(
                            isa = isa.name(),
                            "left alone: it does not compute what plain Rust does"
                        );
                        false
                    })
            };
            Self::ALL.into_iter().find(usable).unwrap_or(Self::Portable)
        })
    }

    /// True if this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Avx512 => Avx512::detect().is_some(),
            Self::Avx2 => Avx2::detect().is_some(),
            Self::Portable => true,
        }
    }

    /// Label for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Calls `task` with this instruction set's token.
    pub(crate) fn dispatch<T: Dispatch>(self, task: T) -> Result<T::Output, EngineError> {
        let missing = || EngineError::Unsupported {
            what: "instruction set".to_owned(),
            found: self.name().to_owned(),
            supported: "what this processor has".to_owned(),
        };
        Ok(match self {
            Self::Avx512 => task.call(Avx512::detect().ok_or_else(missing)?),
            Self::Avx2 => task.call(Avx2::detect().ok_or_else(missing)?),
            Self::Portable => task.call(Portable),
        })
    }
}

/// A generic function to be called with the instruction set that was chosen at run time.
pub(crate) trait Dispatch {
    /// What it returns.
    type Output;

    /// The function.
    fn call<S: Simd>(self, simd: S) -> Self::Output;
}

/// A computation to be compiled for one instruction set. `run` and all that it calls on vectors must be
/// `#[inline(always)]`: only so is it compiled with the instructions enabled.
pub(crate) trait Kernel<S: Simd> {
    /// What it returns.
    type Output;

    /// The computation.
    fn run(self, simd: S) -> Self::Output;
}

/// A computation for panels of activations, to be compiled for each number of rows that panels have.
pub(crate) trait PanelKernel<S: Simd> {
    /// The computation for `M` rows, with the instructions enabled. As `Kernel::run`, it must be inlined.
    fn run<const M: usize>(self, simd: S);
}

/// A panel kernel with its number of rows.
pub(crate) struct Rows<K, const M: usize>(pub(crate) K);

impl<S: Simd, K: PanelKernel<S>, const M: usize> Kernel<S> for Rows<K, M> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        self.0.run::<M>(simd);
    }
}

/// Sixteen lanes of f32 and i32, and dot products of four 8-bit values per lane.
///
/// Activations are i8 from -127 to 127, four to an `i32` (the first in the lowest byte); weights are u8.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Most rows of activations that a kernel takes at once: what fits the registers.
    const PANEL: usize;
    /// Sixteen f32.
    type F32: Copy;
    /// Sixteen i32.
    type I32: Copy;
    /// Sixty-four u8: four per lane.
    type Bytes: Copy;
    /// The same, in the form that `dot_wide` takes.
    type Words: Copy;
    /// The running sum of a few dot products of small weights.
    type Partial: Copy;
    /// Thirty-two activations, in the form that `dot_wide` takes.
    type Wide: Copy + Default + Send + Sync;

    /// Runs a kernel with the instructions enabled.
    fn run<K: Kernel<Self>>(self, kernel: K) -> K::Output;

    /// Runs a kernel for a panel of `rows` rows: a power of two up to `PANEL`.
    fn run_panel<K: PanelKernel<Self>>(self, rows: usize, kernel: K);

    /// Asks for a piece of memory that will be read soon; without it the results are the same.
    fn prefetch<T>(self, value: &T);

    /// The same value in all lanes.
    fn splat(self, value: f32) -> Self::F32;
    /// Sixteen values from memory.
    fn load(self, values: &[f32; LANES]) -> Self::F32;
    /// Sixteen values from IEEE half precision.
    fn load_f16(self, values: &[u16; LANES]) -> Self::F32;
    /// Sixteen values from bfloat16.
    fn load_bf16(self, values: &[u16; LANES]) -> Self::F32;
    /// Sixteen values to memory.
    fn store(self, values: Self::F32, to: &mut [f32; LANES]);
    /// Sixteen values to IEEE half precision, rounded to nearest even.
    fn store_f16(self, values: Self::F32, to: &mut [u16; LANES]);

    /// a + b
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a - b
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a / b
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// a where a > b, else b: b also where either is NaN or both are zeros.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a where a < b, else b: b also where either is NaN or both are zeros.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// |a|
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The nearest integers, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;
    /// `a` in the lanes `from..to`, `other` elsewhere.
    fn select(self, from: usize, to: usize, a: Self::F32, other: Self::F32) -> Self::F32;
    /// a · 2^n for integral n, by adding to the exponent's bits: the result must be a normal number.
    fn scale_by_power(self, a: Self::F32, n: Self::F32) -> Self::F32;
    /// Sum over lanes: i + (i + 8), then + 4, + 2, + 1.
    fn sum(self, a: Self::F32) -> f32;
    /// Largest lane, in the same tree.
    fn largest(self, a: Self::F32) -> f32;

    /// The same value in all lanes.
    fn splat_i32(self, value: i32) -> Self::I32;
    /// Sixteen values, widened.
    fn load_u8(self, values: &[u8; LANES]) -> Self::I32;
    /// Sixteen values, widened.
    fn load_i8(self, values: &[i8; LANES]) -> Self::I32;
    /// a + b, modulo 2^32.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// a · b, modulo 2^32.
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Sum over lanes.
    fn sum_i32(self, a: Self::I32) -> i32;
    /// Rounded to nearest even.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// For values in i32's range; rounded to nearest, ties to even.
    fn to_i32(self, a: Self::F32) -> Self::I32;
    /// Thirty-two values from -127 to 127 as bytes, four to an `i32`.
    fn pack(self, low: Self::I32, high: Self::I32) -> [i32; 8];
    /// The same in the form that `dot_wide` takes.
    fn pack_wide(self, low: Self::I32, high: Self::I32) -> Self::Wide;

    /// Sixty-four bytes from memory.
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::Bytes;
    /// The lower four bits of each byte.
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// The upper four bits of each byte, moved down.
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// `nibbles`, and from bit 4 the `WIDTH` bits of each byte of `plane` that start at bit `FROM`.
    fn with_plane<const FROM: u32, const WIDTH: u32>(
        self,
        nibbles: Self::Bytes,
        plane: Self::Bytes,
    ) -> Self::Bytes;
    /// No products yet.
    fn no_products(self) -> Self::Partial;
    /// Adds per lane the dot product of four weights with the four activations `x`. Between `no_products`
    /// and `total`, the calls times the largest weight must stay at 128 or below.
    fn dot(self, sum: Self::Partial, weights: Self::Bytes, x: i32) -> Self::Partial;
    /// The sum per lane.
    fn total(self, sum: Self::Partial) -> Self::I32;
    /// Prepares weights of eight bits.
    fn widen(self, bytes: Self::Bytes) -> Self::Words;
    /// Adds per lane the dot product of four weights, up to 255, with group `group` (of 8) of `x`.
    fn dot_wide(self, sum: Self::I32, weights: Self::Words, x: &Self::Wide, group: usize) -> Self::I32;
}
