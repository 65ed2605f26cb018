//! `adapter_config.json`: each key is honoured, known to make no difference here, or refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::AdapterError;
use crate::packed::MAX_RANK;

/// Largest `adapter_config.json`, in bytes.
pub(super) const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Keys that say how an adapter was trained, or on what, but not what it computes.
const WITHOUT_EFFECT: [&str; 24] = [
    "arrow_config",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "target_modules",
    "use_rslora",
];

/// What the configuration says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    /// Rows of A and columns of B.
    pub(super) rank: usize,
    /// s in W·x + s·B·(A·x).
    pub(super) factor: f32,
    /// The modules that it names, where it has a list of them.
    pub(super) modules: Option<Vec<String>>,
}

impl Config {
    /// Reads the text of the file at `path`.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, AdapterError> {
        let wrong = |detail: String| AdapterError::Config { path: path.to_owned(), detail };
        let mut keys: BTreeMap<String, Value> =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        expect(&keys, "peft_type", &["LORA"])?;
        if keys.contains_key("bias") {
            expect(&keys, "bias", &["none"])?;
            keys.remove("bias");
        }
        let rank =
            keys.remove("r").and_then(|value| value.as_u64()).filter(|r| (1..=MAX_RANK as u64).contains(r));
        let rank = rank.ok_or_else(|| wrong(format!("r must be a number from 1 to {MAX_RANK}")))? as usize;
        let alpha = keys.remove("lora_alpha").and_then(|value| value.as_f64());
        let alpha = alpha.ok_or_else(|| wrong("lora_alpha must be a number".to_owned()))?;
        let divisor = match keys.get("use_rslora") {
            None | Some(Value::Null | Value::Bool(false)) => rank as f64,
            Some(Value::Bool(true)) => (rank as f64).sqrt(),
            Some(_) => return Err(wrong("use_rslora must be true or false".to_owned())),
        };
        let factor = (alpha / divisor) as f32;
        if !factor.is_finite() {
            return Err(wrong(format!("lora_alpha is {alpha}; it must be a finite number")));
        }
        let modules = modules(keys.get("target_modules"));
        keys.retain(|key, value| !WITHOUT_EFFECT.contains(&key.as_str()) && !is_unset(value));
        match keys.into_iter().next() {
            None => Ok(Self { rank, factor, modules }),
            Some((key, value)) => Err(AdapterError::Unsupported {
                what: format!("{key:?} of its configuration"),
                found: shortened(&value.to_string()),
                supported: "adapters without it".to_owned(),
            }),
        }
    }
}

fn expect(keys: &BTreeMap<String, Value>, key: &str, allowed: &[&str]) -> Result<(), AdapterError> {
    let value = keys.get(key).unwrap_or(&Value::Null);
    if value.as_str().is_some_and(|text| allowed.contains(&text)) {
        return Ok(());
    }
    Err(AdapterError::Unsupported {
        what: format!("{key:?} of its configuration"),
        found: shortened(&value.to_string()),
        supported: format!("{allowed:?}"),
    })
}

/// The last names in a list of modules; a pattern says nothing that the tensors do not.
fn modules(value: Option<&Value>) -> Option<Vec<String>> {
    let last = |value: &Value| Some(value.as_str()?.rsplit('.').next()?.to_owned());
    value?.as_array()?.iter().map(last).collect()
}

/// True for what a key has that is not used.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A value for an error message.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<Config, AdapterError> {
        Config::parse(Path::new("adapter_config.json"), value.to_string().as_bytes())
    }

    /// As PEFT 0.17 writes it.
    fn sound() -> Value {
        json!({
            "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "SmolLM2", "bias": "none",
            "corda_config": null, "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false,
            "inference_mode": true, "init_lora_weights": true, "layer_replication": null, "layers_pattern": null,
            "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 32, "lora_bias": false,
            "lora_dropout": 0.05, "megatron_config": null, "megatron_core": "megatron.core",
            "modules_to_save": null, "peft_type": "LORA", "qalora_group_size": 16, "r": 16, "rank_pattern": {},
            "revision": null, "target_modules": ["v_proj", "model.layers.1.self_attn.q_proj"],
            "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
            "use_dora": false, "use_qalora": false, "use_rslora": false
        })
    }

    #[test]
    fn the_factor_is_alpha_by_rank_or_its_root() {
        let modules = Some(vec!["v_proj".to_owned(), "q_proj".to_owned()]);
        assert_eq!(parse(&sound()).expect("sound"), Config { rank: 16, factor: 2.0, modules });
        let mut stabilised = sound();
        stabilised["use_rslora"] = json!(true);
        assert_eq!(parse(&stabilised).expect("sound").factor, 8.0);
        let least = parse(&json!({"peft_type": "LORA", "r": 256, "lora_alpha": 0.5})).expect("sound");
        assert_eq!((least.rank, least.factor, least.modules), (256, 0.5 / 256.0, None));
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("rank_pattern", json!({"q_proj": 4})),
            ("alpha_pattern", json!({"q_proj": 4})),
            ("bias", json!("all")),
            ("bias", json!(null)),
            ("lora_bias", json!(true)),
            ("fan_in_fan_out", json!(true)),
            ("layer_replication", json!([[0, 4]])),
            ("target_parameters", json!(["x"])),
            ("trainable_token_indices", json!([1])),
            ("peft_type", json!("IA3")),
            ("peft_type", json!(null)),
            ("something_new", json!(1)),
        ] {
            let mut config = sound();
            config[key] = value;
            match parse(&config) {
                Err(AdapterError::Unsupported { what, .. }) => assert!(what.contains(key), "{what}"),
                other => panic!("{key}: {other:?}"),
            }
        }
        for (key, value) in [
            ("r", json!(0)),
            ("r", json!(257)),
            ("r", json!(1.5)),
            ("r", json!(-1)),
            ("r", json!("16")),
            ("lora_alpha", json!(null)),
            ("lora_alpha", json!(1e300)),
            ("use_rslora", json!("yes")),
        ] {
            let mut config = sound();
            config[key] = value;
            match parse(&config) {
                Err(AdapterError::Config { detail, .. }) => assert!(detail.contains(key), "{detail}"),
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_value_or_an_error(text in ".{0,200}", cut in 0..600_usize) {
            let path = Path::new("adapter_config.json");
            prop_assert!(Config::parse(path, text.as_bytes()).is_err());
            let sound = sound().to_string();
            let _ = Config::parse(path, &sound.as_bytes()[..cut.min(sound.len())]);
        }
    }
}
