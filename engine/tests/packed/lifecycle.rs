//! Sequences come and go, the cache fills up, and files are wrong.

use candle_core::quantized::gguf_file::Value;
use dividend_engine::packed::{Chunk, Options, PackedModel, SequenceId, StepError};
use dividend_engine::{EngineError, Gguf};
use proptest::prelude::*;

use crate::support::*;
use crate::tiny::Tiny;

#[test]
fn a_full_cache_changes_nothing_and_a_closed_sequence_makes_room() {
    let tiny = Tiny::new("llama");
    let (_folder, path) = tiny.write();
    let mut model = load(&path, Options { kv_blocks: 4, ..OPTIONS });
    let prompt = tokens(1, 33, tiny.vocabulary);
    let (one, other) = (model.open(), model.open());
    let chunk = |sequence, count| Chunk { sequence, tokens: &prompt[..count], logits: true };
    let expected = model.step(&[chunk(one, 33)]).expect("three blocks are free");
    assert_eq!(model.kv_tokens_available(), 16);
    let full = model.step(&[chunk(other, 33)]);
    assert_eq!(full, Err(StepError::Full { needed: 3, available: 1 }));
    assert_eq!((model.length(one), model.length(other)), (Some(33), Some(0)));
    model.close(one);
    assert_eq!(model.step(&[chunk(other, 33)]), Ok(expected));
}

#[test]
fn wrong_steps_are_refused_by_name() {
    let tiny = Tiny::new("llama");
    let (_folder, path) = tiny.write();
    let mut model = load(&path, Options { context_cap: 20, ..OPTIONS });
    let (sequence, closed) = (model.open(), model.open());
    model.close(closed);
    let long = vec![1; 21];
    let step =
        |model: &mut PackedModel, sequence, tokens| model.step(&[Chunk { sequence, tokens, logits: true }]);
    assert_eq!(step(&mut model, closed, &[1]), Err(StepError::Closed(closed)));
    assert_eq!(step(&mut model, sequence, &[]), Err(StepError::Empty(sequence)));
    assert_eq!(step(&mut model, sequence, &[50]), Err(StepError::Token { token: 50, vocabulary: 50 }));
    assert_eq!(
        step(&mut model, sequence, &long),
        Err(StepError::TooLong { sequence, length: 21, context: 20 })
    );
    let chunk = Chunk { sequence, tokens: &[1], logits: true };
    assert_eq!(model.step(&[chunk, chunk]), Err(StepError::Twice(sequence)));
    assert!(model.step(&[]).expect("nothing to do").is_empty());
    assert_eq!(model.length(sequence), Some(0));
}

#[derive(Debug, Clone)]
enum Action {
    Open { seed: u32, count: usize, reuse: bool },
    Extend { which: usize, seed: u32, count: usize },
    Fork { which: usize },
    Close { which: usize },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        2 => (0..3_u32, 1..60_usize, any::<bool>())
            .prop_map(|(seed, count, reuse)| Action::Open { seed, count, reuse }),
        4 => (any::<usize>(), 0..3_u32, 1..20_usize)
            .prop_map(|(which, seed, count)| Action::Extend { which, seed, count }),
        1 => any::<usize>().prop_map(|which| Action::Fork { which }),
        1 => any::<usize>().prop_map(|which| Action::Close { which }),
    ];
    proptest::collection::vec(action, 1..30)
}

/// Appends tokens, closing other sequences while the cache is full.
fn append(
    model: &mut PackedModel,
    open: &mut Vec<(SequenceId, Vec<u32>)>,
    index: usize,
    tokens: &[u32],
) -> Option<Vec<u32>> {
    let sequence = open[index].0;
    match model.step(&[Chunk { sequence, tokens, logits: true }]) {
        Ok(logits) => {
            open[index].1.extend(tokens);
            Some(bits(logits.row(0)))
        }
        Err(StepError::Full { .. }) => {
            let victim = open.iter().rposition(|(id, _)| *id != sequence)?;
            model.close(open.remove(victim).0);
            let moved = open.iter().position(|(id, _)| *id == sequence)?;
            append(model, open, moved, tokens)
        }
        Err(other) => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn sequences_opened_and_closed_at_random_equal_fresh_ones(actions in actions()) {
        let tiny = Tiny::new("llama");
        let (_folder, path) = tiny.write();
        let mut model = load(&path, Options { kv_blocks: 12, context_cap: 150, ..OPTIONS });
        let mut fresh = load(&path, OPTIONS);
        let mut open: Vec<(SequenceId, Vec<u32>)> = Vec::new();
        for action in actions {
            let (index, more) = match action {
                Action::Open { seed, count, reuse } => {
                    let prompt = tokens(seed, count, tiny.vocabulary);
                    let reused = reuse.then(|| model.open_with_prefix(&prompt));
                    let (sequence, cached) = reused.unwrap_or_else(|| (model.open(), 0));
                    open.push((sequence, prompt[..cached].to_vec()));
                    (open.len() - 1, prompt[cached..].to_vec())
                }
                Action::Extend { which, seed, count } if !open.is_empty() => {
                    (which % open.len(), tokens(seed, count, tiny.vocabulary))
                }
                Action::Fork { which } if !open.is_empty() => {
                    let (of, text) = open[which % open.len()].clone();
                    let fork = model.fork(of).expect("it is open");
                    open.push((fork, text));
                    (open.len() - 1, vec![7])
                }
                Action::Close { which } if !open.is_empty() => {
                    model.close(open.remove(which % open.len()).0);
                    continue;
                }
                _ => continue,
            };
            if open[index].1.len() + more.len() > 150 {
                continue;
            }
            let sequence = open[index].0;
            if let Some(found) = append(&mut model, &mut open, index, &more) {
                let text = &open.iter().find(|(id, _)| *id == sequence).expect("it is open").1;
                prop_assert_eq!(found, bits(&logits(&mut fresh, text, 256)));
            }
        }
        for (sequence, _) in open {
            model.close(sequence);
        }
        prop_assert_eq!(model.kv_tokens_available(), 12 * 16, "no block is lost");
    }
}

/// Loads a model with one metadata entry replaced.
fn load_with(tiny: &Tiny, key: &str, value: Value) -> Result<PackedModel, EngineError> {
    let (_folder, path) = tiny.write_with(key, value);
    PackedModel::load(&path, &Gguf::read(&path).expect("a sound header"), OPTIONS)
}

#[test]
fn files_that_contradict_themselves_are_refused_by_name() {
    let tiny = Tiny::new("llama");
    let wrong = [
        ("llama.block_count", Value::U32(4)),
        ("llama.block_count", Value::U32(2)),
        ("llama.block_count", Value::U32(u32::MAX)),
        ("llama.embedding_length", Value::U32(96)),
        ("llama.feed_forward_length", Value::U32(0)),
        ("llama.feed_forward_length", Value::U32(1_048_576)),
        ("llama.attention.head_count", Value::U32(3)),
        ("llama.attention.head_count_kv", Value::U32(3)),
        ("llama.attention.key_length", Value::U32(24)),
        ("llama.attention.value_length", Value::U32(32)),
        ("llama.rope.dimension_count", Value::U32(17)),
        ("llama.rope.freq_base", Value::F32(0.0)),
        ("llama.rope.scaling.type", Value::String("yarn".to_owned())),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        ("llama.expert_count", Value::U32(8)),
        ("general.architecture", Value::String("mamba".to_owned())),
    ];
    for (key, value) in wrong {
        let shown = format!("{key} = {value:?}");
        match load_with(&tiny, key, value) {
            Err(EngineError::Unsupported { .. } | EngineError::Inconsistent { .. }) => {}
            other => panic!("{shown}: {:?}", other.map(|model| model.label())),
        }
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let (_folder, path) = Tiny::new("llama").write();
    let gguf = Gguf::read(&path).expect("a sound file");
    for options in [
        Options { threads: 0, ..OPTIONS },
        Options { kv_blocks: 0, ..OPTIONS },
        Options { context_cap: 0, ..OPTIONS },
    ] {
        let error = PackedModel::load(&path, &gguf, options).map(|model| model.label());
        assert!(matches!(error, Err(EngineError::Option { .. })), "{error:?}");
    }
}
