//! AVX-512 with VNNI. A vector of sixteen lanes is one register; `vpdpbusd` is the dot product.
#![expect(unsafe_code, reason = "intrinsics")]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::{Kernel, LANES, PanelKernel, Rows, Simd};

/// A processor that has AVX-512 F, BW, DQ, VL and VNNI: made by `detect` alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, where the processor and the operating system allow it.
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        present.then_some(Self(()))
    }
}

/// Intrinsics on values, and registers made from arrays or arrays from registers.
macro_rules! avx512 {
    ($($body:tt)*) => {{
        // SAFETY: the intrinsics need AVX-512 F, BW, DQ, VL and VNNI, which the processor has, since `self`
        // exists, and touch no memory. What is transmuted are numbers, for which any bits are valid, between
        // types of one size.
        #[allow(clippy::allow_attributes, reason = "some bodies hold no unsafe intrinsic")]
        #[allow(unused_unsafe, reason = "some bodies hold no unsafe intrinsic")]
        unsafe { $($body)* }
    }};
}

impl Simd for Avx512 {
    const PANEL: usize = 8;
    type F32 = __m512;
    type I32 = __m512i;
    type Bytes = __m512i;
    type Words = __m512i;
    type Partial = __m512i;
    type Wide = [i32; 8];

    fn run<K: Kernel<Self>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn enabled<K: Kernel<Avx512>>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        avx512!(enabled(self, kernel))
    }

    fn run_panel<K: PanelKernel<Self>>(self, rows: usize, kernel: K) {
        match rows {
            8 => self.run(Rows::<K, 8>(kernel)),
            4 => self.run(Rows::<K, 4>(kernel)),
            2 => self.run(Rows::<K, 2>(kernel)),
            1 => self.run(Rows::<K, 1>(kernel)),
            _ => unreachable!("no panel has {rows} rows"),
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, value: &T) {
        avx512!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()));
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        avx512!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F32 {
        avx512!(transmute::<[f32; LANES], Self::F32>(*values))
    }

    #[inline(always)]
    fn load_f16(self, values: &[u16; LANES]) -> Self::F32 {
        avx512!(_mm512_cvtph_ps(transmute::<[u16; LANES], __m256i>(*values)))
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16; LANES]) -> Self::F32 {
        avx512!({
            let wide = _mm512_cvtepu16_epi32(transmute::<[u16; LANES], __m256i>(*values));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn store(self, values: Self::F32, to: &mut [f32; LANES]) {
        *to = avx512!(transmute::<Self::F32, [f32; LANES]>(values));
    }

    #[inline(always)]
    fn store_f16(self, values: Self::F32, to: &mut [u16; LANES]) {
        *to = avx512!({
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
            transmute::<__m256i, [u16; LANES]>(half)
        });
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx512!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx512!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx512!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx512!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx512!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        avx512!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        avx512!(_mm512_abs_ps(a))
    }

    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn select(self, from: usize, to: usize, a: Self::F32, other: Self::F32) -> Self::F32 {
        let below = |lane: usize| ((1_u32 << lane.min(LANES)) - 1) as u16;
        let inside = below(to) & !below(from);
        avx512!(_mm512_mask_blend_ps(inside, other, a))
    }

    #[inline(always)]
    fn scale_by_power(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        avx512!({
            let exponent = _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), exponent))
        })
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        avx512!({
            let eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn largest(self, a: Self::F32) -> f32 {
        avx512!({
            let eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I32 {
        avx512!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn load_u8(self, values: &[u8; LANES]) -> Self::I32 {
        avx512!(_mm512_cvtepu8_epi32(transmute::<[u8; LANES], __m128i>(*values)))
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8; LANES]) -> Self::I32 {
        avx512!(_mm512_cvtepi8_epi32(transmute::<[i8; LANES], __m128i>(*values)))
    }

    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        avx512!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        avx512!(_mm512_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn sum_i32(self, a: Self::I32) -> i32 {
        avx512!(_mm512_reduce_add_epi32(a))
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I32) -> Self::F32 {
        avx512!(_mm512_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn to_i32(self, a: Self::F32) -> Self::I32 {
        avx512!(_mm512_cvtps_epi32(a))
    }

    #[inline(always)]
    fn pack(self, low: Self::I32, high: Self::I32) -> [i32; 8] {
        avx512!({
            let halves = [_mm512_cvtepi32_epi8(low), _mm512_cvtepi32_epi8(high)];
            transmute::<[__m128i; 2], [i32; 8]>(halves)
        })
    }

    #[inline(always)]
    fn pack_wide(self, low: Self::I32, high: Self::I32) -> Self::Wide {
        self.pack(low, high)
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::Bytes {
        avx512!(transmute::<[u8; 64], Self::Bytes>(*bytes))
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        avx512!(_mm512_and_si512(bytes, _mm512_set1_epi8(15)))
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        avx512!(_mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)))
    }

    #[inline(always)]
    fn with_plane<const FROM: u32, const WIDTH: u32>(
        self,
        nibbles: Self::Bytes,
        plane: Self::Bytes,
    ) -> Self::Bytes {
        avx512!({
            let mask = _mm512_set1_epi8((((1_u32 << WIDTH) - 1) << 4) as i8);
            let (left, right) =
                (_mm_cvtsi32_si128(4 - FROM.min(4) as i32), _mm_cvtsi32_si128(FROM.max(4) as i32 - 4));
            let moved = _mm512_srl_epi16(_mm512_sll_epi16(plane, left), right);
            _mm512_or_si512(nibbles, _mm512_and_si512(moved, mask))
        })
    }

    #[inline(always)]
    fn no_products(self) -> Self::Partial {
        avx512!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn dot(self, sum: Self::Partial, weights: Self::Bytes, x: i32) -> Self::Partial {
        avx512!(_mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn total(self, sum: Self::Partial) -> Self::I32 {
        sum
    }

    #[inline(always)]
    fn widen(self, bytes: Self::Bytes) -> Self::Words {
        bytes
    }

    #[inline(always)]
    fn dot_wide(self, sum: Self::I32, weights: Self::Words, x: &Self::Wide, group: usize) -> Self::I32 {
        self.dot(sum, weights, x[group])
    }
}
