//! Small matrices against the products that they stand for.

use super::matrix::{Arena, quantise};
use super::{AddProduct, Size};
use crate::packed::activations::{Activations, BLOCK, Forms, QuantiseRow};
use crate::packed::isa::{Dispatch, Isa, LANES, Simd};
use proptest::prelude::*;

/// Rows that are multiplied at once.
const ROWS: usize = 1;

struct Products<'a> {
    outputs: usize,
    inputs: usize,
    weights: &'a [f32],
    x: &'a [f32],
}

impl Dispatch for Products<'_> {
    type Output = Vec<f32>;

    #[expect(unsafe_code, reason = "there is one thread")]
    fn call<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut arena = Arena::with_capacity(Size::of(self.outputs, self.inputs));
        let weight = |output: usize, input: usize| self.weights[output * self.inputs + input];
        let layout = arena.push(self.outputs, self.inputs, &weight);
        assert_eq!(arena.bytes(), Size::of(self.outputs, self.inputs).bytes(), "room was made as needed");
        let matrix = arena.matrix(layout);
        let activations = Activations::<S>::new(matrix.blocks(), Forms { wide: true, ..Forms::default() });
        let mut padded = self.x.to_vec();
        padded.resize(matrix.blocks() * BLOCK, 0.0);
        let mut values = vec![[0.5; LANES]; matrix.columns()];
        // SAFETY: there is one thread, and what is written is dropped before it is read.
        let rows = unsafe {
            let mut panel = activations.panel_mut(0..1, matrix.blocks());
            simd.run(QuantiseRow { values: &padded, panel: &mut panel, row: 0 });
            activations.panel(0..1, matrix.blocks()).rows_from(0)
        };
        let columns = matrix.columns_in(0..matrix.columns());
        simd.run_panel(ROWS, AddProduct { columns, rows, outputs: &mut [&mut values[..]] });
        values.as_flattened().to_vec()
    }
}

proptest! {
    #[test]
    fn products_are_close_to_exact_ones_and_equal_everywhere(
        (outputs, inputs) in (1..40_usize, 1..100_usize),
        seed in any::<u32>(),
    ) {
        let noise = |index: usize| {
            ((index as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let weights: Vec<f32> = (0..outputs * inputs).map(noise).collect();
        let x: Vec<f32> = (0..inputs).map(|index| noise(index + 1_000_000)).collect();
        let on = |isa: Isa| isa.dispatch(Products { outputs, inputs, weights: &weights, x: &x });
        let found = on(Isa::Portable).expect("always there");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            prop_assert_eq!(&on(isa).expect("available"), &found);
        }
        for (output, found) in found.iter().enumerate() {
            let row = weights.get(output * inputs..(output + 1) * inputs).unwrap_or(&[]);
            let exact: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            // Each factor is off by half a step of 127, and the scale of weights by a part in 256 at most.
            let bound = inputs as f64 * 2.0 / 127.0;
            prop_assert!((f64::from(*found) - 0.5 - exact).abs() <= bound, "{output}: {found}, {exact}");
        }
    }

    #[test]
    fn quantised_weights_are_off_by_half_a_step(exponent in -120..100_i32, seed in any::<u32>()) {
        let mut weights = [0.0; BLOCK];
        for (index, weight) in weights.iter_mut().enumerate() {
            let noise = (seed.wrapping_add(index as u32)).wrapping_mul(2_654_435_761) as i32;
            *weight = noise as f32 / 2_147_483_648.0 * 2.0_f32.powi(exponent);
        }
        let (scale, bytes) = quantise(&weights);
        let scale = f32::from_bits(u32::from(scale) << 16);
        let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
        if scale == 0.0 {
            prop_assert!(bytes == [128; BLOCK] && largest < 1e-35);
        } else {
            prop_assert!(scale >= largest / 127.0 && scale <= largest / 126.0);
            for (weight, byte) in weights.iter().zip(bytes) {
                let value = scale * (f32::from(byte) - 128.0);
                prop_assert!((value - weight).abs() <= scale * 0.500_01, "{weight} became {value}");
            }
        }
    }
}
