//! The names of an adapter's tensors.

use crate::packed::Target;

/// A module of a layer that can be adapted, by its name in the authors' model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Module {
    /// Its last name, as in PEFT's `target_modules`.
    pub(super) name: &'static str,
    parent: &'static str,
    /// The products that it is, in the order of its outputs.
    pub(super) targets: &'static [Target],
    /// For bases whose authors have one product for several, for the others, or for both.
    fused: Option<bool>,
}

const MODULES: [Module; 9] = [
    Module { name: "q_proj", parent: "self_attn", targets: &[Target::Query], fused: Some(false) },
    Module { name: "k_proj", parent: "self_attn", targets: &[Target::Key], fused: Some(false) },
    Module { name: "v_proj", parent: "self_attn", targets: &[Target::Value], fused: Some(false) },
    Module {
        name: "qkv_proj",
        parent: "self_attn",
        targets: &[Target::Query, Target::Key, Target::Value],
        fused: Some(true),
    },
    Module { name: "o_proj", parent: "self_attn", targets: &[Target::Output], fused: None },
    Module { name: "gate_proj", parent: "mlp", targets: &[Target::Gate], fused: Some(false) },
    Module { name: "up_proj", parent: "mlp", targets: &[Target::Up], fused: Some(false) },
    Module { name: "gate_up_proj", parent: "mlp", targets: &[Target::Gate, Target::Up], fused: Some(true) },
    Module { name: "down_proj", parent: "mlp", targets: &[Target::Down], fused: None },
];

/// What precedes the layers in the models of transformers, with and without PEFT's own prefix.
const PREFIXES: [&str; 4] = ["", "model.", "model.language_model.", "language_model.model."];

/// A or B of the product B·(A·x).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// Rank by inputs.
    A,
    /// Outputs by rank.
    B,
}

/// The modules of a base.
pub(super) fn modules(fused: bool) -> impl Iterator<Item = &'static Module> {
    MODULES.iter().filter(move |module| module.fused.is_none_or(|only| only == fused))
}

/// Layer, module and side of a tensor such as
/// `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`; `None` for any other name.
pub(super) fn parse(name: &str, fused: bool) -> Option<(usize, &'static Module, Side)> {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    let (prefix, rest) = name.split_once("layers.")?;
    if !PREFIXES.contains(&prefix) {
        return None;
    }
    let (layer, rest) = rest.split_once('.')?;
    if layer.starts_with('+') || (layer.starts_with('0') && layer.len() > 1) {
        return None;
    }
    let (parent, rest) = rest.split_once('.')?;
    let (module, rest) = rest.split_once('.')?;
    let side = match rest {
        "lora_A.weight" | "lora_A.default.weight" => Side::A,
        "lora_B.weight" | "lora_B.default.weight" => Side::B,
        _ => return None,
    };
    let module = modules(fused).find(|known| known.parent == parent && known.name == module)?;
    Some((layer.parse().ok()?, module, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peft_are_known_and_others_are_not() {
        let parsed =
            |name: &str, fused| parse(name, fused).map(|(layer, module, side)| (layer, module.name, side));
        for prefix in ["base_model.model.model.", "model.", "", "base_model.model.model.language_model."] {
            let name = format!("{prefix}layers.12.self_attn.q_proj.lora_A.weight");
            assert_eq!(parsed(&name, false), Some((12, "q_proj", Side::A)), "{name}");
            assert_eq!(parsed(&name, true), None, "{name}");
            let name = format!("{prefix}layers.0.mlp.down_proj.lora_B.default.weight");
            assert_eq!(parsed(&name, true), Some((0, "down_proj", Side::B)), "{name}");
        }
        for name in [
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.embed_tokens.lora_embedding_A",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_B.bias",
            "base_model.model.model.layers.1.mlp.q_proj.lora_A.weight",
            "base_model.model.model.layers.+1.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.01.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.99999999999999999999999.self_attn.q_proj.lora_A.weight",
            "base_model.model.encoder.layers.1.self_attn.q_proj.lora_A.weight",
            "",
        ] {
            assert_eq!(parsed(name, false), None, "{name}");
        }
    }
}
