//! Adapters: what they compute, that nothing else changes it, and files that are wrong.

use std::collections::HashMap;
use std::path::Path;

use dividend_engine::packed::{Chunk, Isa, KvType, Options, PackedModel, Scope};
use dividend_engine::{Adapter, AdapterError, digest_file};
use proptest::prelude::*;
use safetensors::tensor::Dtype;
use tempfile::TempDir;

use crate::naive::Naive;
use crate::peft::{Modules, Peft, write};
use crate::support::*;
use crate::tiny::Tiny;

/// The modules of a small model, by transformers' names.
fn modules(tiny: &Tiny) -> Modules {
    let Tiny { width, hidden, head_width, .. } = *tiny;
    let (queries, kv) = (tiny.heads * head_width, tiny.kv_heads * head_width);
    let rest = [("o_proj", width, queries), ("down_proj", width, hidden)];
    let first = match tiny.family {
        "phi3" => vec![("qkv_proj", queries + 2 * kv, width), ("gate_up_proj", 2 * hidden, width)],
        _ => vec![
            ("q_proj", queries, width),
            ("k_proj", kv, width),
            ("v_proj", kv, width),
            ("gate_proj", hidden, width),
            ("up_proj", hidden, width),
        ],
    };
    first.into_iter().chain(rest).collect()
}

fn peft(tiny: &Tiny, seed: u64) -> Peft {
    Peft::new(modules(tiny), tiny.layers, seed)
}

/// Some adapters that differ in everything: rank, modules, type, factor.
fn various(tiny: &Tiny) -> Vec<Peft> {
    let all = modules(tiny);
    let one = |index: usize| vec![all[index % all.len()]];
    vec![
        peft(tiny, 1),
        Peft { rank: 5, alpha: 10.0, dtype: Dtype::BF16, modules: one(0), ..peft(tiny, 2) },
        Peft { rank: 40, stabilised: true, dtype: Dtype::F16, strength: 0.2, ..peft(tiny, 3) },
        Peft { rank: 1, alpha: 0.5, modules: one(2), ..peft(tiny, 4) },
        Peft { rank: 64, modules: one(1), ..peft(tiny, 5) },
    ]
}

fn read(peft: &Peft, model: &PackedModel) -> Adapter {
    let folder = TempDir::new().expect("a temporary folder");
    peft.write(folder.path());
    Adapter::read(folder.path(), &model.adapter_base()).expect("a sound adapter")
}

/// The logits after a prompt with an adapter, appended in chunks.
fn adapted(model: &mut PackedModel, adapter: &Adapter, prompt: &[u32], chunk: usize) -> Vec<f32> {
    let (sequence, cached) =
        model.open_with_adapter(Scope::default(), &[], adapter).expect("an adapter of this base");
    assert_eq!(cached, 0);
    let mut last = Vec::new();
    for tokens in prompt.chunks(chunk) {
        let logits = model.step(&[Chunk { sequence, tokens, logits: true }]).expect("room for the prompt");
        last = logits.row(0).to_vec();
    }
    model.close(sequence);
    last
}

/// Weights and inputs of adapters are rounded to eight bits, so the change that an adapter makes is off by one to three parts in
/// a hundred; rows in a wrong order, or a wrong factor, would be off by all of it.
#[test]
fn every_architecture_computes_what_merged_weights_do() {
    for tiny in Tiny::all() {
        let (_folder, path) = tiny.write();
        let mut model = load(&path, OPTIONS);
        for peft in various(&tiny) {
            let adapter = read(&peft, &model);
            let plain = Naive::read(&tiny, &path).expect("a sound file");
            let merged = Naive::read(&tiny, &path).expect("a sound file").merged(&peft);
            for count in [2, 17, 40] {
                let prompt = tokens(3, count, tiny.vocabulary);
                let (expected, base) = (merged.logits(&prompt), plain.logits(&prompt));
                let found = adapted(&mut model, &adapter, &prompt, 256);
                let change = relative_error(&base, &expected);
                let error = relative_error(&found, &expected);
                assert!(change > 0.02, "{} {peft:?}: it changes nothing, {change}", tiny.family);
                assert!(
                    error < 0.04 * change,
                    "{}, rank {}, {count} tokens: error {error} of a change of {change}",
                    tiny.family,
                    peft.rank
                );
            }
        }
    }
}

/// Models in formats of floats, of few bits and of eight bits.
fn models() -> Vec<Tiny> {
    use candle_core::quantized::GgmlDType::{BF16, Q4_0, Q5_0, Q8_0};
    let mut models: Vec<Tiny> = Tiny::all().collect();
    models.push(Tiny { formats: vec![Q4_0, Q8_0, BF16, Q5_0], ..Tiny::new("llama") });
    models.push(Tiny { formats: vec![Q4_0], tied: true, ..Tiny::new("qwen2") });
    models
}

#[test]
fn instruction_sets_threads_and_chunks_change_no_adapted_logits() {
    for tiny in models() {
        let (_folder, path) = tiny.write();
        let prompt = tokens(1, 75, tiny.vocabulary);
        let plain = Options { threads: 1, isa: Some(Isa::Portable), ..OPTIONS };
        let mut model = load(&path, plain);
        let adapters: Vec<Adapter> = various(&tiny).iter().map(|peft| read(peft, &model)).collect();
        let expected: Vec<Vec<u32>> =
            adapters.iter().map(|adapter| bits(&adapted(&mut model, adapter, &prompt, 256))).collect();
        for isa in instruction_sets() {
            for (threads, chunk) in [(1, 75), (2, 75), (1, 1), (2, 7), (3, 64), (2, 3)] {
                let mut model = load(&path, Options { threads, isa: Some(isa), ..OPTIONS });
                for (adapter, expected) in adapters.iter().zip(&expected) {
                    let found = bits(&adapted(&mut model, adapter, &prompt, chunk));
                    assert_eq!(
                        found, *expected,
                        "{} {adapter:?} {isa:?} {threads} threads, chunks of {chunk}",
                        tiny.family
                    );
                }
            }
        }
    }
}

#[test]
fn company_of_other_adapters_changes_nothing() {
    for tiny in models() {
        let (_folder, path) = tiny.write();
        for isa in instruction_sets() {
            let mut model = load(&path, Options { isa: Some(isa), kv_type: KvType::F16, ..OPTIONS });
            let adapters: Vec<Adapter> = various(&tiny).iter().map(|peft| read(peft, &model)).collect();
            // Every adapter twice and more, and the base, in an order that is none.
            let streams: Vec<(Option<&Adapter>, Vec<u32>)> = (0..16)
                .map(|stream| {
                    let count = [40, 1, 17, 33, 3][stream % 5];
                    (adapters.get(stream * 5 % 7), tokens(stream as u32, count, tiny.vocabulary))
                })
                .collect();
            let alone =
                |model: &mut PackedModel, (adapter, prompt): &(Option<&Adapter>, Vec<u32>)| match adapter {
                    Some(adapter) => adapted(model, adapter, prompt, 256),
                    None => logits(model, prompt, 256),
                };
            let expected: Vec<Vec<u32>> =
                streams.iter().map(|stream| bits(&alone(&mut model, stream))).collect();
            let mut together = load(&path, Options { isa: Some(isa), kv_type: KvType::F16, ..OPTIONS });
            let sequences: Vec<_> = streams
                .iter()
                .map(|(adapter, _)| match adapter {
                    Some(adapter) => {
                        together.open_with_adapter(Scope::default(), &[], adapter).expect("it fits").0
                    }
                    None => together.open(),
                })
                .collect();
            let chunks = |last: bool| -> Vec<Chunk<'_>> {
                let pairs = sequences.iter().zip(&streams);
                let all = pairs.map(|(sequence, (_, prompt))| {
                    let (start, end) = prompt.split_at(prompt.len() - 1);
                    Chunk { sequence: *sequence, tokens: if last { end } else { start }, logits: last }
                });
                all.filter(|chunk| !chunk.tokens.is_empty()).collect()
            };
            assert!(together.step(&chunks(false)).expect("room").is_empty());
            let found = together.step(&chunks(true)).expect("room");
            let found: Vec<Vec<u32>> = found.rows().map(bits).collect();
            assert_eq!(found, expected, "{} {isa:?}", tiny.family);
        }
    }
}

#[test]
fn what_one_adapter_computed_is_not_reused_for_another() {
    let tiny = Tiny::new("llama");
    let (_folder, path) = tiny.write();
    let mut model = load(&path, OPTIONS);
    let prompt = tokens(5, 50, tiny.vocabulary);
    let [one, other, again] =
        [peft(&tiny, 1), peft(&tiny, 2), peft(&tiny, 1)].map(|peft| read(&peft, &model));
    let base = bits(&logits(&mut model, &prompt, 256));
    let [expected, others] = [&one, &other].map(|adapter| bits(&adapted(&mut model, adapter, &prompt, 256)));
    assert!(base != expected && expected != others);
    let mut cached = HashMap::new();
    for (name, adapter, expected) in
        [("base", None, &base), ("one", Some(&one), &expected), ("other", Some(&other), &others)]
    {
        let (sequence, found) = match adapter {
            Some(adapter) => model.open_with_adapter(Scope::default(), &prompt, adapter).expect("it fits"),
            None => model.open_with_prefix(&prompt),
        };
        cached.insert(name, found);
        let rest = Chunk { sequence, tokens: &prompt[found..], logits: true };
        let values = bits(model.step(&[rest]).expect("room").row(0));
        assert_eq!(values, *expected, "{name}");
        let fork = model.fork(sequence).expect("open");
        let more = |sequence| Chunk { sequence, tokens: &prompt[..3], logits: true };
        let both = model.step(&[more(fork), more(sequence)]).expect("room");
        assert_eq!(bits(both.row(0)), bits(both.row(1)), "{name}: a fork has the adapter too");
        model.close(sequence);
        model.close(fork);
    }
    assert_eq!(cached, HashMap::from([("base", 48), ("one", 48), ("other", 48)]));
    // The same weights read once more are another version; nothing is taken over.
    assert_eq!(model.open_with_adapter(Scope::default(), &prompt, &again).expect("it fits").1, 0);
}

#[test]
fn an_adapter_says_what_it_is_and_fits_its_base_alone() {
    let (tiny, folder) = (Tiny::new("llama"), TempDir::new().expect("a temporary folder"));
    let (_folder, path) = tiny.write();
    let mut model = load(&path, OPTIONS);
    let source = Peft { modules: modules(&tiny)[..2].to_vec(), ..peft(&tiny, 1) };
    let place = folder.path().join("poems");
    source.write(&place);
    let adapter = Adapter::read(&place, &model.adapter_base()).expect("sound");
    let info = adapter.info();
    let file = digest_file(&place.join("adapter_model.safetensors")).expect("readable");
    assert_eq!((info.name.as_str(), info.digest, info.rank), ("poems", file, 16));
    assert_eq!(info.modules, ["q_proj", "k_proj"]);
    assert_eq!(info.parameters, 3 * 16 * (64 + 64 + 64 + 32));
    // Eight bits and their scales, in whole columns of 16 outputs.
    assert_eq!(info.bytes, 3 * (2 * 2 + 4 + 2) * 32 + 3 * (2 * 16 + 4 * 4 + 2 * 4) * 64);
    let (_folder, wider) = Tiny { hidden: 128, ..tiny }.write();
    let error =
        load(&wider, OPTIONS).open_with_adapter(Scope::default(), &[1], &adapter).expect_err("another base");
    assert!(matches!(error, AdapterError::Unsupported { .. }), "{error}");
    assert!(model.open_with_adapter(Scope::default(), &[1], &adapter).is_ok());
}

/// Reads an adapter whose tensors have been changed.
fn read_changed(
    tiny: &Tiny,
    model: &PackedModel,
    change: impl FnOnce(&mut std::collections::BTreeMap<String, (Vec<usize>, Vec<u8>)>),
) -> Result<Adapter, AdapterError> {
    let (peft, folder) = (peft(tiny, 1), TempDir::new().expect("a temporary folder"));
    let mut tensors = peft.tensors();
    change(&mut tensors);
    write(folder.path(), &peft.config(), peft.dtype, &tensors);
    Adapter::read(folder.path(), &model.adapter_base())
}

#[test]
fn wrong_tensors_are_refused_by_name() {
    let tiny = Tiny::new("llama");
    let (_folder, path) = tiny.write();
    let model = load(&path, OPTIONS);
    let (prefix, q) = ("base_model.model.model.layers", "self_attn.q_proj");
    let a = format!("{prefix}.1.{q}.lora_A.weight");
    let renamed = |new: String| {
        let error = read_changed(&tiny, &model, |tensors| {
            let tensor = tensors.remove(&a).expect("it is there");
            tensors.insert(new.clone(), tensor);
        });
        let error = error.expect_err("a wrong name").to_string();
        assert!(error.contains(&new) || error.contains("has no lora_A"), "{new}: {error}");
    };
    renamed(format!("{prefix}.3.{q}.lora_A.weight"));
    renamed(format!("{prefix}.1.{q}.lora_magnitude_vector"));
    renamed("base_model.model.lm_head.lora_A.weight".to_owned());
    renamed(format!("layers.2.{q}.lora_A.default.weight"));
    renamed(format!("{prefix}.1.mlp.q_proj.lora_A.weight"));
    let expect = |what: &str, result: Result<Adapter, AdapterError>| {
        let error = result.expect_err(what).to_string();
        assert!(error.contains("layers.1.") && error.contains(what), "{what}: {error}");
    };
    expect(
        "has no lora_B",
        read_changed(&tiny, &model, |tensors| {
            tensors.remove(&format!("{prefix}.1.{q}.lora_B.weight"));
        }),
    );
    expect(
        "[16, 32]",
        read_changed(&tiny, &model, |tensors| {
            tensors.insert(a.clone(), (vec![16, 32], vec![0; 16 * 32 * 4]));
        }),
    );
    expect(
        "[64, 16]",
        read_changed(&tiny, &model, |tensors| {
            tensors.insert(a.clone(), (vec![64, 16], vec![0; 16 * 64 * 4]));
        }),
    );
    for value in [f32::NAN, f32::INFINITY] {
        expect(
            "finite",
            read_changed(&tiny, &model, |tensors| {
                tensors.get_mut(&a).expect("it is there").1[400..404].copy_from_slice(&value.to_le_bytes());
            }),
        );
    }
    let nothing = read_changed(&tiny, &model, std::collections::BTreeMap::clear);
    assert!(matches!(nothing, Err(AdapterError::Format { .. })), "{nothing:?}");
    let partial = read_changed(&tiny, &model, |tensors| tensors.retain(|name, _| !name.contains("up_proj")));
    assert!(partial.expect_err("incomplete").to_string().contains("up_proj"));
    let without_prefix = read_changed(&tiny, &model, |tensors| {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, tensor)| {
                (name.replace("base_model.model.", "").replace(".weight", ".default.weight"), tensor)
            })
            .collect();
    });
    assert!(without_prefix.is_ok(), "{without_prefix:?}");
}

#[test]
fn files_that_are_too_large_or_absent_are_refused_unread() {
    let tiny = Tiny::new("llama");
    let (_folder, path) = tiny.write();
    let base = load(&path, OPTIONS).adapter_base();
    let folder = TempDir::new().expect("a temporary folder");
    let read = || Adapter::read(folder.path(), &base);
    assert!(matches!(read(), Err(AdapterError::Io { .. })));
    peft(&tiny, 1).write(folder.path());
    let grow = |name: &str| {
        let file =
            std::fs::OpenOptions::new().write(true).open(folder.path().join(name)).expect("it is there");
        file.set_len(1 << 40).expect("a sparse file");
    };
    grow("adapter_model.safetensors");
    assert!(matches!(read(), Err(AdapterError::TooLarge { .. })));
    grow("adapter_config.json");
    assert!(matches!(read(), Err(AdapterError::TooLarge { .. })));
}

fn outcome(folder: &Path, model: &mut PackedModel) -> Result<(), AdapterError> {
    let adapter = Adapter::read(folder, &model.adapter_base())?;
    let (sequence, _) = model.open_with_adapter(Scope::default(), &[], &adapter).expect("it fits");
    model.step(&[Chunk { sequence, tokens: &[1, 2], logits: true }]).expect("room");
    model.close(sequence);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any damage ends in an error, or in an adapter that computes something.
    #[test]
    fn damaged_files_are_refused_or_computed(
        at in prop_oneof![0..8_usize, 8..4000_usize, any::<usize>()],
        bytes in proptest::collection::vec(any::<u8>(), 1..9),
        cut in proptest::option::of(any::<usize>()),
    ) {
        thread_local! {
            static RIG: std::cell::RefCell<(PackedModel, Vec<u8>, TempDir)> = std::cell::RefCell::new({
                let tiny = Tiny::new("llama");
                let (_folder, path) = tiny.write();
                let folder = TempDir::new().expect("a temporary folder");
                peft(&tiny, 1).write(folder.path());
                let file = std::fs::read(folder.path().join("adapter_model.safetensors")).expect("just written");
                (load(&path, OPTIONS), file, folder)
            });
        }
        RIG.with_borrow_mut(|(model, file, folder)| {
            let mut damaged = file.clone();
            let at = at % damaged.len();
            for (byte, new) in damaged[at..].iter_mut().zip(&bytes) {
                *byte = *new;
            }
            if let Some(cut) = cut {
                damaged.truncate(cut % damaged.len());
            }
            std::fs::write(folder.path().join("adapter_model.safetensors"), &damaged).expect("room on the disk");
            let result = outcome(folder.path(), model);
            prop_assert!(cut.is_none() || result.is_err(), "a file that was cut short");
            Ok(())
        })?;
    }
}
