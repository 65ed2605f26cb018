//! AVX2 with FMA and F16C. A vector of sixteen lanes is two registers.
//!
//! Small weights are multiplied by `vpmaddubsw`, whose sums of two products are 16 bits wide: a few of them
//! are added before they are widened, as [`Simd::dot`] allows. Weights of eight bits would saturate it;
//! they are zero-extended and multiplied by `vpmaddwd`.
#![expect(unsafe_code, reason = "intrinsics")]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::{Kernel, LANES, PanelKernel, Rows, Simd};

/// A processor that has AVX2, FMA and F16C: made by `detect` alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, where the processor and the operating system allow it.
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }
}

/// Intrinsics on values, and registers made from arrays or arrays from registers.
macro_rules! avx2 {
    ($($body:tt)*) => {{
        // SAFETY: the intrinsics need AVX2, FMA and F16C, which the processor has, since `self` exists, and
        // touch no memory. What is transmuted are numbers, for which any bits are valid, between types of one
        // size.
        #[allow(clippy::allow_attributes, reason = "some bodies hold no unsafe intrinsic")]
        #[allow(unused_unsafe, reason = "some bodies hold no unsafe intrinsic")]
        unsafe { $($body)* }
    }};
}

impl Simd for Avx2 {
    const PANEL: usize = 4;
    type F32 = [__m256; 2];
    type I32 = [__m256i; 2];
    type Bytes = [__m256i; 2];
    /// Bytes 0 and 2 of each lane as 16 bits, then bytes 1 and 3.
    type Words = [[__m256i; 2]; 2];
    /// Two sums of 16 bits per lane.
    type Partial = [__m256i; 2];
    /// Per group of four: values 0 and 2 as 16 bits in one `i32`, values 1 and 3 in the next.
    type Wide = [i32; LANES];

    fn run<K: Kernel<Self>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn enabled<K: Kernel<Avx2>>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        avx2!(enabled(self, kernel))
    }

    fn run_panel<K: PanelKernel<Self>>(self, rows: usize, kernel: K) {
        match rows {
            4 => self.run(Rows::<K, 4>(kernel)),
            2 => self.run(Rows::<K, 2>(kernel)),
            1 => self.run(Rows::<K, 1>(kernel)),
            _ => unreachable!("no panel has {rows} rows"),
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, value: &T) {
        avx2!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()));
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        avx2!([_mm256_set1_ps(value); 2])
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F32 {
        avx2!(transmute::<[f32; LANES], Self::F32>(*values))
    }

    #[inline(always)]
    fn load_f16(self, values: &[u16; LANES]) -> Self::F32 {
        avx2!({
            let [low, high] = transmute::<[u16; LANES], [__m128i; 2]>(*values);
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        })
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16; LANES]) -> Self::F32 {
        avx2!({
            let [low, high] = transmute::<[u16; LANES], [__m128i; 2]>(*values);
            let (low, high) = (_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        })
    }

    #[inline(always)]
    fn store(self, values: Self::F32, to: &mut [f32; LANES]) {
        *to = avx2!(transmute::<Self::F32, [f32; LANES]>(values));
    }

    #[inline(always)]
    fn store_f16(self, values: Self::F32, to: &mut [u16; LANES]) {
        *to = avx2!({
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values[1]);
            transmute::<[__m128i; 2], [u16; LANES]>([low, high])
        });
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx2!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx2!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx2!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx2!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        avx2!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx2!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx2!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        avx2!({
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        })
    }

    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        avx2!([_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])])
    }

    #[inline(always)]
    fn select(self, from: usize, to: usize, a: Self::F32, other: Self::F32) -> Self::F32 {
        let (from, to) = (from.min(LANES) as i32, to.min(LANES) as i32);
        avx2!({
            let (from, to) = (_mm256_set1_epi32(from), _mm256_set1_epi32(to));
            let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
            let low = _mm256_andnot_si256(_mm256_cmpgt_epi32(from, low), _mm256_cmpgt_epi32(to, low));
            let high = _mm256_andnot_si256(_mm256_cmpgt_epi32(from, high), _mm256_cmpgt_epi32(to, high));
            [
                _mm256_blendv_ps(other[0], a[0], _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(other[1], a[1], _mm256_castsi256_ps(high)),
            ]
        })
    }

    #[inline(always)]
    fn scale_by_power(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        avx2!({
            let low = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[0]));
            let high = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[1]));
            [
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[0]), low)),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a[1]), high)),
            ]
        })
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        avx2!({
            let eight = _mm256_add_ps(a[0], a[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn largest(self, a: Self::F32) -> f32 {
        avx2!({
            let eight = _mm256_max_ps(a[0], a[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I32 {
        avx2!([_mm256_set1_epi32(value); 2])
    }

    #[inline(always)]
    fn load_u8(self, values: &[u8; LANES]) -> Self::I32 {
        avx2!({
            let bytes = transmute::<[u8; LANES], __m128i>(*values);
            [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))]
        })
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8; LANES]) -> Self::I32 {
        avx2!({
            let bytes = transmute::<[i8; LANES], __m128i>(*values);
            [_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))]
        })
    }

    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        avx2!([_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])])
    }

    #[inline(always)]
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        avx2!([_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])])
    }

    #[inline(always)]
    fn sum_i32(self, a: Self::I32) -> i32 {
        avx2!({
            let eight = _mm256_add_epi32(a[0], a[1]);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        })
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I32) -> Self::F32 {
        avx2!([_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])])
    }

    #[inline(always)]
    fn to_i32(self, a: Self::F32) -> Self::I32 {
        avx2!([_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])])
    }

    #[inline(always)]
    fn pack(self, low: Self::I32, high: Self::I32) -> [i32; 8] {
        avx2!({
            // Packing works within halves of registers; the permutation puts the groups of four in order.
            let words = [_mm256_packs_epi32(low[0], low[1]), _mm256_packs_epi32(high[0], high[1])];
            let bytes = _mm256_packs_epi16(words[0], words[1]);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            transmute::<__m256i, [i32; 8]>(_mm256_permutevar8x32_epi32(bytes, order))
        })
    }

    #[inline(always)]
    fn pack_wide(self, low: Self::I32, high: Self::I32) -> Self::Wide {
        avx2!({
            let pairs = _mm256_setr_epi8(
                0, 1, 8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, //
                0, 1, 8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1,
            );
            let low =
                _mm256_unpacklo_epi64(_mm256_shuffle_epi8(low[0], pairs), _mm256_shuffle_epi8(low[1], pairs));
            let high = _mm256_unpacklo_epi64(
                _mm256_shuffle_epi8(high[0], pairs),
                _mm256_shuffle_epi8(high[1], pairs),
            );
            let low = _mm256_permute4x64_epi64::<0b11_01_10_00>(low);
            let high = _mm256_permute4x64_epi64::<0b11_01_10_00>(high);
            transmute::<[__m256i; 2], Self::Wide>([low, high])
        })
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::Bytes {
        avx2!(transmute::<[u8; 64], Self::Bytes>(*bytes))
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        avx2!({
            let mask = _mm256_set1_epi8(15);
            [_mm256_and_si256(bytes[0], mask), _mm256_and_si256(bytes[1], mask)]
        })
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        let moved = avx2!([_mm256_srli_epi16::<4>(bytes[0]), _mm256_srli_epi16::<4>(bytes[1])]);
        self.low_nibbles(moved)
    }

    #[inline(always)]
    fn with_plane<const FROM: u32, const WIDTH: u32>(
        self,
        nibbles: Self::Bytes,
        plane: Self::Bytes,
    ) -> Self::Bytes {
        avx2!({
            let mask = _mm256_set1_epi8((((1_u32 << WIDTH) - 1) << 4) as i8);
            let (left, right) =
                (_mm_cvtsi32_si128(4 - FROM.min(4) as i32), _mm_cvtsi32_si128(FROM.max(4) as i32 - 4));
            let low = _mm256_srl_epi16(_mm256_sll_epi16(plane[0], left), right);
            let high = _mm256_srl_epi16(_mm256_sll_epi16(plane[1], left), right);
            [
                _mm256_or_si256(nibbles[0], _mm256_and_si256(low, mask)),
                _mm256_or_si256(nibbles[1], _mm256_and_si256(high, mask)),
            ]
        })
    }

    #[inline(always)]
    fn no_products(self) -> Self::Partial {
        avx2!([_mm256_setzero_si256(); 2])
    }

    #[inline(always)]
    fn dot(self, sum: Self::Partial, weights: Self::Bytes, x: i32) -> Self::Partial {
        avx2!({
            let x = _mm256_set1_epi32(x);
            [
                _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(weights[0], x)),
                _mm256_add_epi16(sum[1], _mm256_maddubs_epi16(weights[1], x)),
            ]
        })
    }

    #[inline(always)]
    fn total(self, sum: Self::Partial) -> Self::I32 {
        avx2!({
            let one = _mm256_set1_epi16(1);
            [_mm256_madd_epi16(sum[0], one), _mm256_madd_epi16(sum[1], one)]
        })
    }

    #[inline(always)]
    fn widen(self, bytes: Self::Bytes) -> Self::Words {
        avx2!({
            let mask = _mm256_set1_epi16(0xff);
            [
                [_mm256_and_si256(bytes[0], mask), _mm256_and_si256(bytes[1], mask)],
                [_mm256_srli_epi16::<8>(bytes[0]), _mm256_srli_epi16::<8>(bytes[1])],
            ]
        })
    }

    #[inline(always)]
    fn dot_wide(self, sum: Self::I32, weights: Self::Words, x: &Self::Wide, group: usize) -> Self::I32 {
        let (even, odd) = (x[2 * group], x[2 * group + 1]);
        avx2!({
            let (even, odd) = (_mm256_set1_epi32(even), _mm256_set1_epi32(odd));
            let low = _mm256_add_epi32(sum[0], _mm256_madd_epi16(weights[0][0], even));
            let high = _mm256_add_epi32(sum[1], _mm256_madd_epi16(weights[0][1], even));
            [
                _mm256_add_epi32(low, _mm256_madd_epi16(weights[1][0], odd)),
                _mm256_add_epi32(high, _mm256_madd_epi16(weights[1][1], odd)),
            ]
        })
    }
}
