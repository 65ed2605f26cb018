//! Functions of one variable, from exact operations alone: equal to the bit on every instruction set.

use super::isa::Simd;

/// e^x within 2 units in the last place. Arguments below -86 count as -86 and above 88 as 88, so that all
/// results are normal numbers.
///
/// x = n·ln 2 + f with |f| ≤ ln 2 / 2; e^f by its Taylor polynomial of degree 7; 2^n by the exponent's bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // ln 2 in two parts: the first has zeros at its end, so that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const TAYLOR: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let x = simd.min(simd.max(x, simd.splat(-86.0)), simd.splat(88.0));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let f = simd.fma(n, simd.splat(-LN_2_HIGH), x);
    let f = simd.fma(n, simd.splat(-LN_2_LOW), f);
    let mut polynomial = simd.splat(1.0 / 5040.0);
    for coefficient in TAYLOR {
        polynomial = simd.fma(polynomial, f, simd.splat(coefficient));
    }
    simd.scale_by_power(polynomial, n)
}

/// x / (1 + e^-x)
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    simd.div(x, simd.add(one, exp(simd, simd.sub(simd.splat(0.0), x))))
}

/// 1 - 2 / (e^2x + 1)
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let power = exp(simd, simd.add(x, x));
    simd.sub(one, simd.div(simd.splat(2.0), simd.add(power, one)))
}

/// The approximation of GELU that models are trained with, x/2 · (1 + tanh u) for
/// u = √(2/π)·(x + 0.044715·x³), as x / (1 + e^-2u).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    const TWICE_ROOT_2_BY_PI: f32 = 1.595_769;
    let one = simd.splat(1.0);
    let cubic = simd.fma(simd.mul(x, x), simd.splat(0.044_715), one);
    let u = simd.mul(simd.mul(x, cubic), simd.splat(-TWICE_ROOT_2_BY_PI));
    simd.div(x, simd.add(one, exp(simd, u)))
}

/// cap · tanh(x / cap)
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(simd: S, x: S::F32, cap: f32) -> S::F32 {
    let cap = simd.splat(cap);
    simd.mul(cap, tanh(simd, simd.div(x, cap)))
}
