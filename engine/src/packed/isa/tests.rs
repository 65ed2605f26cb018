//! Single operations of each instruction set against the portable definition, and that against other
//! libraries.

use super::portable::f32_to_f16;
use super::*;
use crate::packed::math;

const SAMPLES: [f32; 32] = [
    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 6e-8, 5.96e-8, 6.1e-5, 65504.0, 65520.0, 1e30,
    -1e30, 3.0, 87.5, -87.5, -86.0, 88.0, 1e-3, 0.1, -0.3, 12.75, 100.5, -100.5, 127.0, -127.0, 1.0009766,
    3.25,
];

/// The bits of every operation on a few vectors.
struct Operations;

impl Dispatch for Operations {
    type Output = Vec<u32>;

    fn call<S: Simd>(self, simd: S) -> Vec<u32> {
        let mut bits = Vec::new();
        for start in 0..LANES {
            let one: &[f32; LANES] = SAMPLES[start..].first_chunk().expect("sixteen more samples");
            let other: &[f32; LANES] = SAMPLES[LANES - start..].first_chunk().expect("sixteen more samples");
            simd.run(Arithmetic { one, other, bits: &mut bits });
            simd.run(Integers { one, seed: start as i32, bits: &mut bits });
        }
        bits
    }
}

struct Arithmetic<'a> {
    one: &'a [f32; LANES],
    other: &'a [f32; LANES],
    bits: &'a mut Vec<u32>,
}

impl<S: Simd> Kernel<S> for Arithmetic<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let (a, b) = (simd.load(self.one), simd.load(self.other));
        let mut halves = [0; LANES];
        simd.store_f16(a, &mut halves);
        let results = [
            simd.add(a, b),
            simd.sub(a, b),
            simd.mul(a, b),
            simd.div(a, simd.splat(3.0)),
            simd.fma(a, b, simd.splat(0.7)),
            simd.max(a, b),
            simd.min(a, b),
            simd.abs(a),
            simd.round(a),
            simd.select(3, 11, a, b),
            simd.select(0, 16, a, b),
            simd.select(9, 40, a, b),
            simd.load_f16(&halves),
            simd.load_bf16(&halves),
            math::exp(simd, a),
            math::silu(simd, a),
            math::tanh(simd, a),
            math::gelu(simd, a),
            math::soft_cap(simd, a, 30.0),
            simd.splat(simd.sum(a)),
            simd.splat(simd.largest(b)),
        ];
        for result in results {
            let mut values = [0.0; LANES];
            simd.store(result, &mut values);
            self.bits.extend(values.map(f32::to_bits));
        }
        self.bits.extend(halves.map(u32::from));
    }
}

struct Integers<'a> {
    one: &'a [f32; LANES],
    seed: i32,
    bits: &'a mut Vec<u32>,
}

impl<S: Simd> Kernel<S> for Integers<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let limit = simd.splat(127.0);
        let small = simd.min(simd.max(simd.load(self.one), simd.splat(-127.0)), limit);
        let (low, high) = (simd.to_i32(small), simd.to_i32(simd.sub(simd.splat(0.0), small)));
        let packed = simd.pack(low, high);
        let wide = simd.pack_wide(low, high);
        self.bits.extend(packed.map(|value| value as u32));
        let mut bytes = [0; 64];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (index as i32 * 37 + self.seed * 101) as u8;
        }
        let weights = simd.load_bytes(&bytes);
        let (nibbles, upper) = (simd.low_nibbles(weights), simd.high_nibbles(weights));
        let planes = [
            simd.with_plane::<0, 1>(nibbles, weights),
            simd.with_plane::<7, 1>(upper, weights),
            simd.with_plane::<2, 2>(nibbles, weights),
            simd.with_plane::<6, 2>(upper, weights),
        ];
        let eight: &[u8; LANES] = bytes.first_chunk().expect("sixteen of sixty-four bytes");
        let mut sums = vec![simd.load_u8(eight), simd.load_i8(&eight.map(|byte| byte as i8))];
        sums.push(simd.mul_i32(sums[0], sums[1]));
        sums.push(simd.splat_i32(simd.sum_i32(sums[2])));
        for (group, x) in packed.into_iter().enumerate() {
            sums.extend(planes.map(|plane| simd.total(simd.dot(simd.no_products(), plane, x))));
            sums.push(simd.dot_wide(sums[2], simd.widen(weights), &wide, group));
        }
        for sum in sums {
            let mut values = [0.0; LANES];
            simd.store(simd.to_f32(sum), &mut values);
            self.bits.extend(values.map(f32::to_bits));
        }
    }
}

#[test]
fn every_operation_is_the_same_to_the_bit() {
    let expected = Isa::Portable.dispatch(Operations).expect("always available");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        assert_eq!(isa.dispatch(Operations).expect("available"), expected, "{}", isa.name());
    }
}

#[test]
fn an_absent_instruction_set_is_refused_by_name() {
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let error = isa.dispatch(Operations).expect_err("not on this processor");
        assert!(error.to_string().contains(isa.name()), "{error}");
    }
}

#[test]
fn half_precision_is_converted_as_by_the_half_crate() {
    for bits in 0..=u16::MAX {
        let (found, expected) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
        assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()), "{bits:x}");
    }
    for bits in (0..=u32::MAX).step_by(10_007) {
        let value = f32::from_bits(bits);
        let (found, expected) = (f32_to_f16(value), half::f16::from_f32(value).to_bits());
        assert!(found == expected || value.is_nan(), "{value}: {found:x} instead of {expected:x}");
    }
}

#[test]
fn functions_are_close_to_the_exact_ones() {
    let check = |name: &str, found: f32, exact: f64, tolerance: f64| {
        let error = (f64::from(found) - exact).abs() / exact.abs().max(1e-2);
        assert!(error <= tolerance, "{name}: {found} instead of {exact}");
    };
    for step in -8600..=8800 {
        let x = step as f32 / 100.0;
        let exact = f64::from(x);
        let vector = [x; LANES];
        let exp = f64::from(math::exp(Portable, vector)[0]);
        assert!((exp / exact.exp() - 1.0).abs() < 2e-7, "exp({x}) = {exp}");
        check("silu", math::silu(Portable, vector)[0], exact / (1.0 + (-exact).exp()), 1e-6);
        check("tanh", math::tanh(Portable, vector)[0], exact.tanh(), 2e-5);
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3));
        check("gelu", math::gelu(Portable, vector)[0], 0.5 * exact * (1.0 + inner.tanh()), 2e-5);
    }
}
