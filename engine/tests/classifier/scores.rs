//! Scores: what candle computes, to the bit the same in any company.

use dividend_engine::classifier::{ClassifyError, PROFILE};
use dividend_engine::{Health, SubmitError};

use crate::oracle;
use crate::tiny::Tiny;

fn bits(scores: &[Vec<f32>]) -> Vec<u32> {
    scores.iter().flatten().map(|score| score.to_bits()).collect()
}

#[test]
fn every_layer_computes_what_candles_operation_does() {
    for tiny in Tiny::all() {
        let classifier = tiny.load().unwrap();
        for input in tiny.inputs(20) {
            let found = classifier.classify(std::slice::from_ref(&input)).unwrap().remove(0);
            let expected = oracle::scores(&tiny, &input).unwrap();
            assert_eq!(found.len(), classifier.info().labels.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 2e-6 * expected.abs().max(1.0),
                    "{found} instead of {expected}: {}",
                    tiny.description
                );
            }
        }
    }
}

#[test]
fn scores_are_the_same_to_the_bit_alone_and_in_a_batch_and_on_the_thread() {
    for tiny in Tiny::all() {
        let classifier = tiny.load().unwrap();
        let inputs = tiny.inputs(33);
        let together = classifier.classify(&inputs).unwrap();
        let alone: Vec<_> = inputs
            .iter()
            .map(|input| classifier.classify(std::slice::from_ref(input)).unwrap().remove(0))
            .collect();
        let submitted = classifier.submit(inputs).unwrap().wait().unwrap();
        assert_eq!(bits(&together), bits(&alone));
        assert_eq!(bits(&together), bits(&submitted));
        let stats = classifier.stats();
        assert_eq!((stats.finished, stats.inputs, classifier.health()), (1, 33, Health::Ready));
    }
}

/// The profile's golden hash: on every machine the same.
#[test]
fn scores_are_those_of_the_profile() {
    let hash = |bits: Vec<u32>| {
        // FNV-1a, 64 bits.
        let bytes = bits.into_iter().flat_map(u32::to_le_bytes);
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let found = Tiny::all().map(|tiny| {
        let classifier = tiny.load().unwrap();
        assert_eq!(classifier.info().profile, PROFILE);
        hash(bits(&classifier.classify(&tiny.inputs(50)).unwrap()))
    });
    assert_eq!(
        found.map(|hash| format!("{hash:016x}")),
        ["7422b700e087582b", "07b63dab00130fcd", "f972262049b7a7ff", "0b8d80fa0fa1e0ba"]
    );
}

#[tokio::test]
async fn many_callers_are_answered_in_their_order() {
    let tiny = Tiny::perceptron();
    let classifier = tiny.load().unwrap();
    let inputs = tiny.inputs(40);
    let pending: Vec<_> =
        inputs.iter().map(|input| classifier.submit(vec![input.clone()]).unwrap()).collect();
    for (input, pending) in inputs.iter().zip(pending) {
        assert_eq!(pending.await.unwrap(), classifier.classify(std::slice::from_ref(input)).unwrap());
    }
    let info = classifier.info();
    assert_eq!(
        (info.input_shape.as_slice(), info.parameters),
        (&[6][..], 16 * 6 + 16 + 32 + 8 * 16 + 3 * 8 + 3)
    );
}

#[test]
fn inputs_that_cannot_be_are_refused() {
    let classifier = Tiny::perceptron().load().unwrap();
    let refused = |inputs: &[Vec<f32>]| classifier.classify(inputs).unwrap_err().to_string();
    assert_eq!(refused(&[]), "input is a list of 0; it must be a list of 1 to 2048 inputs");
    assert_eq!(
        refused(&[vec![0.0; 6], vec![0.0; 7]]),
        "input is holding 7 values at 1; it must be of 6 values each"
    );
    assert_eq!(refused(&[vec![f32::NAN; 6]]), "input is holding NaN at 0; it must be of finite numbers");
    let error = classifier.submit(vec![vec![f32::INFINITY; 6]]).unwrap_err();
    assert!(matches!(error, SubmitError::Invalid { field: "input", .. }));
    let text = Tiny::text().load().unwrap();
    for value in [12.0, -1.0, 0.5, f32::NAN] {
        let error = text.classify(&[vec![value; 10]]).unwrap_err();
        assert!(matches!(&error, ClassifyError::Input(_)), "{error}");
        assert!(error.to_string().contains("token ids below 12"), "{error}");
    }
    let signal = Tiny::signal().with("/output", "none".into()).load().unwrap();
    let far = signal.classify(&[vec![f32::MAX; 24]]);
    assert!(far.is_ok() || matches!(far, Err(ClassifyError::Failed(_))), "{far:?}");
}
