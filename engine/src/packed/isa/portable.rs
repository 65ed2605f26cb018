//! Plain Rust: the definition that the other instruction sets must match.

use std::array::from_fn;

use super::{Kernel, LANES, PanelKernel, Rows, Simd};

/// Any processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    const PANEL: usize = 1;
    type F32 = [f32; LANES];
    type I32 = [i32; LANES];
    type Bytes = [u8; 64];
    type Words = [u8; 64];
    type Partial = [i32; LANES];
    type Wide = [i32; 8];

    fn run<K: Kernel<Self>>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    fn run_panel<K: PanelKernel<Self>>(self, rows: usize, kernel: K) {
        match rows {
            1 => self.run(Rows::<K, 1>(kernel)),
            _ => unreachable!("no panel has {rows} rows"),
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, _value: &T) {}

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F32 {
        *values
    }

    #[inline(always)]
    fn load_f16(self, values: &[u16; LANES]) -> Self::F32 {
        values.map(f16_to_f32)
    }

    #[inline(always)]
    fn load_bf16(self, values: &[u16; LANES]) -> Self::F32 {
        values.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(always)]
    fn store(self, values: Self::F32, to: &mut [f32; LANES]) {
        *to = values;
    }

    #[inline(always)]
    fn store_f16(self, values: Self::F32, to: &mut [u16; LANES]) {
        *to = values.map(f32_to_f16);
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|lane| larger(a[lane], b[lane]))
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        a.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn select(self, from: usize, to: usize, a: Self::F32, other: Self::F32) -> Self::F32 {
        from_fn(|lane| if (from..to).contains(&lane) { a[lane] } else { other[lane] })
    }

    #[inline(always)]
    fn scale_by_power(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        let n = self.to_i32(n);
        from_fn(|lane| f32::from_bits(a[lane].to_bits().wrapping_add((n[lane] as u32) << 23)))
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        tree(a, |x, y| x + y)
    }

    #[inline(always)]
    fn largest(self, a: Self::F32) -> f32 {
        tree(a, larger)
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load_u8(self, values: &[u8; LANES]) -> Self::I32 {
        values.map(i32::from)
    }

    #[inline(always)]
    fn load_i8(self, values: &[i8; LANES]) -> Self::I32 {
        values.map(i32::from)
    }

    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }

    #[inline(always)]
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        from_fn(|lane| a[lane].wrapping_mul(b[lane]))
    }

    #[inline(always)]
    fn sum_i32(self, a: Self::I32) -> i32 {
        a.into_iter().fold(0, i32::wrapping_add)
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I32) -> Self::F32 {
        a.map(|value| value as f32)
    }

    #[inline(always)]
    fn to_i32(self, a: Self::F32) -> Self::I32 {
        a.map(|value| value.round_ties_even() as i32)
    }

    #[inline(always)]
    fn pack(self, low: Self::I32, high: Self::I32) -> [i32; 8] {
        let value = |index: usize| if index < LANES { low[index] } else { high[index - LANES] } as u8;
        from_fn(|group| i32::from_le_bytes(from_fn(|byte| value(4 * group + byte))))
    }

    #[inline(always)]
    fn pack_wide(self, low: Self::I32, high: Self::I32) -> Self::Wide {
        self.pack(low, high)
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::Bytes {
        *bytes
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn with_plane<const FROM: u32, const WIDTH: u32>(
        self,
        nibbles: Self::Bytes,
        plane: Self::Bytes,
    ) -> Self::Bytes {
        let mask = (1 << WIDTH) - 1;
        from_fn(|index| nibbles[index] | (((plane[index] >> FROM) & mask) << 4))
    }

    #[inline(always)]
    fn no_products(self) -> Self::Partial {
        [0; LANES]
    }

    #[inline(always)]
    fn dot(self, sum: Self::Partial, weights: Self::Bytes, x: i32) -> Self::Partial {
        let x = x.to_le_bytes().map(|byte| i32::from(byte as i8));
        from_fn(|lane| {
            let weight = |byte: usize| i32::from(weights[4 * lane + byte]);
            sum[lane] + weight(0) * x[0] + weight(1) * x[1] + weight(2) * x[2] + weight(3) * x[3]
        })
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

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn tree(a: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = from_fn(|lane| combine(a[lane], a[lane + 8]));
    let four: [f32; 4] = from_fn(|lane| combine(eight[lane], eight[lane + 4]));
    let two: [f32; 2] = from_fn(|lane| combine(four[lane], four[lane + 2]));
    combine(two[0], two[1])
}

/// Exact. The exponent is rebased by a product, which also normalises subnormal numbers.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let rebase = f32::from_bits((127 + 112) << 23);
    let value = if magnitude >= 0x7c00 {
        // Infinities and quiet NaNs.
        let quiet = if magnitude > 0x7c00 { 0x0040_0000 } else { 0 };
        0x7f80_0000 | (magnitude << 13) | quiet
    } else {
        (f32::from_bits(magnitude << 13) * rebase).to_bits()
    };
    f32::from_bits(sign | value)
}

/// Rounds to nearest even; too large becomes infinite.
#[inline(always)]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00 | ((magnitude >> 13) & 0x3ff)
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        // Subnormal: adding 0.5 lets the adder round at the right bit.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()
    } else {
        let odd = (magnitude >> 13) & 1;
        (magnitude - (112 << 23) + 0xfff + odd) >> 13
    };
    sign | half as u16
}
