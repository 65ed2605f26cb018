//! Descriptions and weights that are wrong, by accident or on purpose: each ends in an error that names the layer.

use dividend_engine::EngineError;
use dividend_engine::classifier::{Classifier, ClassifierOptions};
use dividend_engine::safetensors::Dtype;
use proptest::prelude::*;
use serde_json::json;

use crate::tiny::Tiny;

fn refused(tiny: &Tiny) -> String {
    tiny.load().unwrap_err().to_string()
}

#[test]
fn descriptions_that_do_not_chain_are_refused_by_layer() {
    let (perceptron, signal, image, text) = (Tiny::perceptron, Tiny::signal, Tiny::image, Tiny::text);
    let large = u64::MAX;
    let cases = [
        (perceptron().with("/schema", json!("classifier/2")), "classifier/2"),
        (perceptron().with("/output", json!("argmax")), "argmax"),
        (perceptron().with("/layers", json!([])), "layers"),
        (perceptron().with("/layers", json!(vec![json!({"type": "relu"}); 257])), "257"),
        (perceptron().with("/layers/1", json!({"type": "dropout"})), "dropout"),
        (perceptron().with("/layers/1", json!({"type": "relu", "slope": 1})), "slope"),
        (perceptron().with("/input/shape", json!([])), "input shape"),
        (perceptron().with("/input/shape", json!([0])), "input shape"),
        (perceptron().with("/input/shape", json!([large, 2])), "input shape"),
        (perceptron().with("/input/shape", json!([6, 1])), "layer 0 (linear \"first\")"),
        (perceptron().with("/input/shape", json!([5])), "input mean"),
        (perceptron().with("/input/std/0", json!(0.0)), "input std"),
        (perceptron().with("/input/std/0", json!(-1.0)), "input std"),
        (perceptron().with("/input/std/0", json!(1e-37)).with("/input/mean/0", json!(1e30)), "input std"),
        (perceptron().with("/layers/0/outputs", json!(17)), "layer 0 (linear \"first\")"),
        (perceptron().with("/layers/0/outputs", json!(0)), "layer 0 (linear \"first\")"),
        (perceptron().with("/layers/0/outputs", json!(large)), "layer 0 (linear \"first\")"),
        (perceptron().with("/layers/0/bias", json!(false)), "first.bias"),
        (perceptron().with("/layers/3/name", json!("first")), "layer 3 (linear \"first\")"),
        (perceptron().with("/layers/5/name", json!("nobody")), "nobody.weight"),
        (perceptron().with("/labels", json!(["a", "b"])), "labels"),
        (perceptron().with("/labels", json!(["a", "b", "a"])), "\"a\" appears twice"),
        (signal().with("/layers/0/kernel", json!(0)), "layer 0 (conv1d \"one\")"),
        (signal().with("/layers/0/kernel", json!(15)), "layer 0 (conv1d \"one\")"),
        (signal().with("/layers/0/padding", json!(large)), "layer 0 (conv1d \"one\")"),
        (signal().with("/layers/4/stride", json!(0)), "layer 4 (conv1d \"two\")"),
        (signal().with("/layers/3/kernel", json!(13)), "layer 3 (max_pool)"),
        (signal().with("/layers/3/stride", json!(0)), "layer 3 (max_pool)"),
        (signal().with("/layers/7", json!({"type": "relu"})), "layer 8 (linear \"last\")"),
        (
            signal().with("/layers/1", json!({"type": "layer_norm", "name": "norm"})),
            "layer 1 (layer_norm \"norm\")",
        ),
        (image().with("/layers/1/epsilon", json!(0.0)), "layer 1 (batch_norm \"norm\")"),
        (image().with("/layers/0/outputs", json!(1 << 30)), "layer 0 (conv2d \"one\")"),
        (
            text().with("/layers/2", json!({"type": "embedding", "name": "words", "rows": 12, "width": 8})),
            "layer 2",
        ),
        (text().with("/layers/0/rows", json!(13)), "layer 0 (embedding \"words\")"),
        (text().with("/layers/0/width", json!(large)), "layer 0 (embedding \"words\")"),
    ];
    for (tiny, named) in cases {
        let error = refused(&tiny);
        assert!(error.contains(named), "{named} is not in: {error}");
    }
}

#[test]
fn a_network_that_would_take_minutes_is_refused_before_it_runs() {
    let tanh = vec![json!({"type": "tanh"}); 200];
    let wide = Tiny::perceptron().with("/input", json!({"shape": [1 << 24]})).with("/layers", json!(tanh));
    assert!(refused(&wide).contains("operations"), "{}", refused(&wide));
    let kernel = json!([{"type": "conv2d", "name": "one", "outputs": 1, "kernel": 1001, "padding": 1000}]);
    let slow = Tiny::image().with("/input", json!({"shape": [1, 2000, 2000]})).with("/layers", kernel);
    assert!(refused(&slow).contains("operations"), "{}", refused(&slow));
}

#[test]
fn weights_that_cannot_be_are_refused_by_layer_and_tensor() {
    let with = |shape: &[usize], value: f32| Tiny::perceptron().with_tensor("second.weight", shape, value);
    let mut missing = Tiny::perceptron();
    missing.tensors.remove("second.weight");
    let mut integers = Tiny::perceptron();
    integers.tensors.insert("second.weight".to_owned(), (Dtype::I64, vec![8, 16], vec![0; 8 * 16 * 8]));
    for tiny in [
        with(&[16, 8], 0.0),
        with(&[128], 0.0),
        with(&[8, 16], f32::NAN),
        with(&[8, 16], f32::NEG_INFINITY),
        missing,
        integers,
    ] {
        let error = refused(&tiny);
        assert!(error.contains("layer 3 (linear \"second\")") && error.contains("second.weight"), "{error}");
    }
    let error = refused(&Tiny::perceptron().with_tensor("third.weight", &[2], 0.0));
    assert!(error.contains("third.weight"), "{error}");
    let error = refused(&Tiny::signal().with_tensor("norm.running_var", &[4], -0.5));
    assert!(error.contains("running_var"), "{error}");
    let error = refused(
        &Tiny::perceptron()
            .with_tensor("norm.bias", &[16], 10.0)
            .with_tensor("second.weight", &[8, 16], 1.0)
            .with_tensor("last.weight", &[3, 8], f32::MAX),
    );
    assert!(error.contains("not finite"), "{error}");
    let mut counted = Tiny::signal();
    let count = (Dtype::I64, vec![], vec![7, 0, 0, 0, 0, 0, 0, 0]);
    counted.tensors.insert("norm.num_batches_tracked".to_owned(), count);
    assert!(counted.load().is_ok(), "a counter of PyTorch's is no weight");
}

#[test]
fn files_that_are_missing_or_no_such_files_are_named() {
    let tiny = Tiny::perceptron();
    let (folder, description, weights) = tiny.write(&tiny.safetensors());
    let load = |description, weights| Classifier::load(description, weights, ClassifierOptions::default());
    let nowhere = folder.path().join("nowhere");
    assert!(matches!(load(&nowhere, &weights), Err(EngineError::Missing { .. })));
    assert!(matches!(load(&description, &nowhere), Err(EngineError::Missing { .. })));
    assert!(matches!(load(&description, &description), Err(EngineError::SafeTensors { .. })));
    let error = load(&weights, &weights).unwrap_err();
    assert!(matches!(&error, EngineError::Inconsistent { .. }), "{error}");
    let error =
        Classifier::load(&description, &weights, ClassifierOptions { queue: 0, ..Default::default() });
    assert!(matches!(error, Err(EngineError::Option { option: "queue", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is flipped in the header, loading ends in a network or an error.
    #[test]
    fn flipped_bytes_never_panic(which in 0..4_usize, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let tiny = Tiny::all()[which].clone();
        let mut bytes = tiny.safetensors();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        for (place, value) in flips {
            let place = place.index(header);
            bytes[place] = value;
        }
        let (_folder, description, weights) = tiny.write(&bytes);
        if let Ok(classifier) = Classifier::load(&description, &weights, ClassifierOptions::default()) {
            prop_assert!(classifier.classify(&tiny.inputs(2)).is_ok());
        }
    }

    /// Whatever numbers a description holds, loading ends in a network or an error.
    #[test]
    fn numbers_in_the_description_never_panic(which in 0..4_usize, layer in 0..9_usize, key in 0..6_usize, value in prop_oneof![0..20_u64, any::<u64>()]) {
        let mut tiny = Tiny::all()[which].clone();
        let key = ["outputs", "kernel", "stride", "padding", "rows", "width"][key];
        let layers = tiny.description["layers"].as_array_mut().unwrap();
        let index = layer % layers.len();
        if layers[index].get(key).is_some() {
            layers[index][key] = json!(value);
        }
        if let Ok(classifier) = tiny.load() {
            prop_assert!(classifier.classify(&tiny.inputs(1)).is_ok());
        }
    }
}
