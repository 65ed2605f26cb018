//! Logits that never change: `fixtures/engine_logits.json` holds their hashes. A change there is a change of
//! the profile `llm-packed-v1`.

use dividend_engine::packed::{Isa, KvType, Options, PackedModel};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::equality::models;
use crate::support::*;

#[derive(Deserialize)]
struct Golden {
    profile: String,
    /// Of the synthetic models, in their order.
    tiny: Vec<Tiny>,
    real: Vec<Real>,
}

#[derive(Deserialize)]
struct Tiny {
    family: String,
    logits_sha256: String,
}

#[derive(Deserialize)]
struct Real {
    file: String,
    /// Prompts begin with these.
    tokens: Vec<u32>,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    /// How many of the tokens.
    length: usize,
    kv_type: String,
    logits_sha256: String,
}

impl Prompt {
    fn options(&self) -> Options {
        let kv_type = match self.kv_type.as_str() {
            "f32" => KvType::F32,
            "f16" => KvType::F16,
            other => panic!("kv_type {other}: it must be f32 or f16"),
        };
        Options { kv_type, ..OPTIONS }
    }
}

fn golden() -> Golden {
    let golden: Golden =
        serde_json::from_str(include_str!("../../../fixtures/engine_logits.json")).expect("JSON");
    assert_eq!(golden.profile, "llm-packed-v1");
    golden
}

/// SHA-256 of the logits after a prompt, each as four bytes, little-endian.
fn hash(model: &mut PackedModel, prompt: &[u32], chunk: usize) -> String {
    let values = logits(model, prompt, chunk);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tiny_models_logits_are_those_of_the_profile() {
    let (golden, models) = (golden().tiny, models());
    let expected: Vec<_> = golden.into_iter().map(|one| (one.family, one.logits_sha256)).collect();
    for isa in instruction_sets() {
        let found = models.iter().map(|tiny| {
            let (_folder, path) = tiny.write();
            let mut model = load(&path, Options { isa: Some(isa), ..OPTIONS });
            (tiny.family.to_owned(), hash(&mut model, &tokens(1, 40, tiny.vocabulary), 256))
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{isa:?}");
    }
    println!("computed by {:?}", instruction_sets().collect::<Vec<_>>());
}

/// The first and shortest prompt of the first model, by the best instruction set: little enough for an emulator.
#[test]
fn a_short_prompts_logits_are_those_of_the_profile() {
    let golden = golden();
    let (model, prompt) = (&golden.real[0], &golden.real[0].prompts[0]);
    let mut packed = load(&fetched(&model.file), prompt.options());
    let found = hash(&mut packed, &model.tokens[..prompt.length], 256);
    assert_eq!(found, prompt.logits_sha256);
    println!("computed by {}", packed.label());
}

fn check_real(file: &str) {
    let golden = golden();
    let model = golden.real.iter().find(|model| model.file == file).expect("a model of the fixture");
    let expected: Vec<&String> = model.prompts.iter().map(|prompt| &prompt.logits_sha256).collect();
    for isa in instruction_sets() {
        for (threads, chunk) in [(2, 256), (1, 7), (2, 1)] {
            if isa == Isa::Portable && chunk != 256 {
                // Far slower; the synthetic models cover it.
                continue;
            }
            let found = model.prompts.iter().map(|prompt| {
                let options = Options { threads, isa: Some(isa), ..prompt.options() };
                hash(&mut load(&fetched(file), options), &model.tokens[..prompt.length], chunk)
            });
            let found: Vec<String> = found.collect();
            assert_eq!(
                found.iter().collect::<Vec<_>>(),
                expected,
                "{file}, {isa:?}, {threads} threads, chunks of {chunk}"
            );
        }
    }
}

#[test]
fn smollm2s_logits_are_those_of_the_profile() {
    check_real(MODEL);
}

#[test]
fn gemma3s_logits_are_those_of_the_profile() {
    check_real("gemma-3-270m-q4_k_m.gguf");
}
