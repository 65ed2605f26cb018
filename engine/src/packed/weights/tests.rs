//! Each format against candle's own reading of it, and the instruction sets against each other.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::packed::isa::Isa;
use crate::packed::trial::Products;

/// candle's name of a format, its number in files, inputs per block, and where a block has half-precision
/// numbers.
type Format = (GgmlDType, u32, usize, &'static [usize]);

const FORMATS: [Format; 9] = [
    (GgmlDType::F32, 0, 1, &[]),
    (GgmlDType::F16, 1, 1, &[0]),
    (GgmlDType::Q4_0, 2, 32, &[0]),
    (GgmlDType::Q4_1, 3, 32, &[0, 2]),
    (GgmlDType::Q5_0, 6, 32, &[0]),
    (GgmlDType::Q8_0, 8, 32, &[0]),
    (GgmlDType::Q4K, 12, 256, &[0, 2]),
    (GgmlDType::Q6K, 14, 256, &[208]),
    (GgmlDType::BF16, 30, 1, &[]),
];

fn products(isa: Isa, matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    isa.dispatch(Products { matrix, x }).expect("an instruction set of this processor")
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// Numbers of a generator that is good enough for tests, from -1 to 1.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    bits(seed, count).into_iter().map(|bits| bits as i32 as f32 / 2.0_f32.powi(31)).collect()
}

fn bits(seed: u64, count: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// Any weights that the format can express, with finite scales.
fn arbitrary_file(format: Format, seed: u64, weights: usize) -> Vec<u8> {
    let (dtype, _, block, halves) = format;
    let mut file: Vec<u8> = bits(seed, weights * 4)
        .into_iter()
        .map(|bits| bits as u8)
        .take(weights / block * dtype.type_size())
        .collect();
    for block in file.chunks_exact_mut(dtype.type_size()) {
        for half in halves {
            // No infinities and NaNs.
            block[half + 1] &= 0xbf;
        }
        match dtype {
            GgmlDType::F32 => block[3] &= 0xbf,
            GgmlDType::BF16 => block[1] &= 0xbf,
            _ => {}
        }
    }
    file
}

#[test]
fn every_format_unpacks_to_what_candle_reads() {
    for (dtype, type_id, _, _) in FORMATS {
        let (outputs, inputs) = (21, 512);
        let (file, expected) = candle_weights(dtype, 7, outputs, inputs);
        let matrix = Matrix::pack("w", (outputs, inputs), type_id, &file, 2).expect("a sound matrix");
        let mut row = vec![0.0; inputs];
        for output in 0..outputs {
            matrix.unpack(output, &mut row);
            for (found, expected) in row.iter().zip(&expected[output * inputs..]) {
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
                    "{dtype:?}: {found} {expected}"
                );
            }
        }
    }
}

/// Random weights as the file has them, and as candle reads them.
fn candle_weights(dtype: GgmlDType, seed: u64, outputs: usize, inputs: usize) -> (Vec<u8>, Vec<f32>) {
    let values = Tensor::from_vec(noise(seed, outputs * inputs), (outputs, inputs), &Device::Cpu);
    let tensor = QTensor::quantize(&values.expect("a tensor"), dtype).expect("a format that candle writes");
    let read = tensor.dequantize(&Device::Cpu).and_then(|tensor| tensor.flatten_all()?.to_vec1());
    (tensor.data().expect("data on the CPU").to_vec(), read.expect("a format that candle reads"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_differ_from_exact_ones_by_the_rounding_of_activations(
        format in 0..FORMATS.len(),
        seed: u64,
        outputs in 1_usize..40,
        rows in 1_usize..=17,
        blocks in 1_usize..4,
    ) {
        let (dtype, type_id, block, _) = FORMATS[format];
        let inputs = blocks * block.max(BLOCK);
        let (file, weights) = candle_weights(dtype, seed, outputs, inputs);
        let matrix = Matrix::pack("w", (outputs, inputs), type_id, &file, 2).expect("a sound matrix");
        let x = noise(seed ^ 1, rows * inputs);
        for isa in available() {
            let found = products(isa, &matrix, &x);
            for (index, found) in found.into_iter().enumerate() {
                let (row, output) = (index / outputs, index % outputs);
                let pairs = x[row * inputs..].iter().zip(&weights[output * inputs..]).take(inputs);
                let exact: f64 = pairs.clone().map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let magnitude: f64 = pairs.map(|(_, w)| f64::from(w.abs())).sum();
                // Activations up to 1 are rounded by up to 1/254; float formats only by f32's arithmetic.
                let step = if matrix.forms().floats { 1e-5 } else { 1.0 / 254.0 + 1e-5 };
                prop_assert!(
                    (f64::from(found) - exact).abs() <= magnitude * step,
                    "{dtype:?} on {}: {found} instead of {exact}", isa.name(),
                );
            }
        }
    }

    #[test]
    fn instruction_sets_agree_to_the_bit(
        format in 0..FORMATS.len(),
        seed: u64,
        outputs in 1_usize..40,
        rows in 1_usize..=17,
        blocks in 1_usize..4,
    ) {
        let (_, type_id, block, _) = FORMATS[format];
        let inputs = blocks * block.max(BLOCK);
        let file = arbitrary_file(FORMATS[format], seed, outputs * inputs);
        let matrix = Matrix::pack("w", (outputs, inputs), type_id, &file, 1).expect("a sound matrix");
        let mut x = noise(seed ^ 2, rows * inputs);
        x.iter_mut().zip(bits(seed ^ 3, rows * inputs)).for_each(|(x, bits)| match bits % 16 {
            0 => *x = 1.0,
            1 => *x = -1.0,
            2 => *x = 0.0,
            3 => *x *= 1e-30,
            _ => {}
        });
        x[..BLOCK].fill(0.0);
        let expected: Vec<u32> = products(Isa::Portable, &matrix, &x).into_iter().map(f32::to_bits).collect();
        for isa in available() {
            let found: Vec<u32> = products(isa, &matrix, &x).into_iter().map(f32::to_bits).collect();
            prop_assert_eq!(&found, &expected, "{}", isa.name());
        }
    }

    #[test]
    fn a_row_is_the_same_in_any_panel(format in 0..FORMATS.len(), seed: u64, rows in 2_usize..=17) {
        let (_, type_id, block, _) = FORMATS[format];
        let inputs = 2 * block.max(BLOCK);
        let file = arbitrary_file(FORMATS[format], seed, 20 * inputs);
        let matrix = Matrix::pack("w", (20, inputs), type_id, &file, 1).expect("a sound matrix");
        let x = noise(seed, rows * inputs);
        for isa in available() {
            let together = products(isa, &matrix, &x);
            let alone: Vec<f32> = x.chunks_exact(inputs).flat_map(|x| products(isa, &matrix, x)).collect();
            prop_assert_eq!(&together, &alone);
        }
    }
}

#[test]
fn extreme_weights_and_activations_do_not_saturate() {
    for (dtype, type_id, block, halves) in FORMATS.into_iter().filter(|format| format.2 > 1) {
        let inputs = 2 * block;
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut file = vec![byte; 16 * 2 * dtype.type_size()];
            for block in file.chunks_exact_mut(dtype.type_size()) {
                halves
                    .iter()
                    .for_each(|half| block[*half..half + 2].copy_from_slice(&0x3c00_u16.to_le_bytes()));
            }
            let matrix = Matrix::pack("w", (16, inputs), type_id, &file, 1).expect("a sound matrix");
            let mut weights = vec![0.0; inputs];
            matrix.unpack(0, &mut weights);
            let expected: f32 = weights.iter().sum();
            for isa in available() {
                for sign in [1.0, -1.0] {
                    let found = products(isa, &matrix, &vec![sign; inputs])[0];
                    assert!(
                        (found - sign * expected).abs() <= expected.abs() * 1e-5,
                        "{dtype:?} {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn wrong_sizes_and_formats_are_refused() {
    assert!(matches!(
        Matrix::pack("w", (16, 32), 3, &[0; 16 * 20 - 1], 1),
        Err(EngineError::Inconsistent { .. })
    ));
    assert!(matches!(
        Matrix::pack("w", (16, 48), 0, &[0; 16 * 48 * 4], 1),
        Err(EngineError::Unsupported { .. })
    ));
    assert!(matches!(Matrix::pack("w", (16, 32), 10, &[], 1), Err(EngineError::Unsupported { .. })));
    assert!(matches!(Matrix::pack("w", (usize::MAX, 64), 3, &[], 1), Err(EngineError::Inconsistent { .. })));
}

#[test]
fn all_of_the_file_is_told_of_once() {
    for (outputs, inputs, threads) in [(100, 64, 3), (40_000, 64, 2), (16, 32, 8)] {
        let file = vec![0; outputs * inputs / 32 * 34];
        let told = std::sync::Mutex::new(Vec::new());
        let packed = |range: std::ops::Range<usize>| told.lock().expect("no panic").push(range);
        Matrix::pack_in_pieces("w", (outputs, inputs), 8, &file, threads, &packed).expect("a sound matrix");
        let mut told = told.into_inner().expect("no panic");
        told.sort_by_key(|range| (range.start, range.end));
        let end = told.iter().fold(0, |end, range| {
            assert_eq!(range.start, end);
            range.end
        });
        assert_eq!(end, file.len());
    }
}
