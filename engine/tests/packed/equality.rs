//! The same logits, to the bit, however they are computed.

use candle_core::quantized::GgmlDType;
use dividend_engine::packed::{Chunk, Isa, KvType, Options};

use crate::support::*;
use crate::tiny::Tiny;

/// Every model that tests are worth on: all architectures, then all formats.
pub fn models() -> Vec<Tiny> {
    let small =
        [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_0, GgmlDType::Q8_0, GgmlDType::F16, GgmlDType::BF16];
    let mut models: Vec<Tiny> = Tiny::all().map(|tiny| Tiny { formats: small.to_vec(), ..tiny }).collect();
    let large = Tiny { width: 256, heads: 8, head_width: 32, hidden: 512, ..Tiny::new("llama") };
    let (q4, q6) = (GgmlDType::Q4K, GgmlDType::Q6K);
    models.push(Tiny { formats: vec![q4, q6, GgmlDType::F32], ..large });
    models.push(Tiny { window: Some(5), kv_heads: 1, ..models[0].clone() });
    models.push(Tiny { kv_heads: 4, tied: true, ..models[1].clone() });
    models
}

#[test]
fn instruction_sets_threads_and_chunks_change_nothing() {
    for tiny in models() {
        let (_folder, path) = tiny.write();
        let prompt = tokens(1, 75, tiny.vocabulary);
        for kv_type in [KvType::F32, KvType::F16] {
            let options = Options { kv_type, ..OPTIONS };
            let plain = Options { threads: 1, isa: Some(Isa::Portable), ..options };
            let expected = bits(&logits(&mut load(&path, plain), &prompt, 256));
            for isa in instruction_sets() {
                for (threads, chunk) in [(1, 75), (2, 75), (1, 1), (2, 7), (3, 64), (2, 3)] {
                    let mut model = load(&path, Options { threads, isa: Some(isa), ..options });
                    let found = bits(&logits(&mut model, &prompt, chunk));
                    assert_eq!(found, expected, "{tiny:?} {isa:?} {threads} threads, chunks of {chunk}");
                }
            }
        }
    }
}

#[test]
fn company_changes_nothing() {
    for tiny in models() {
        let (_folder, path) = tiny.write();
        let mut model = load(&path, OPTIONS);
        let prompts: Vec<Vec<u32>> = [40, 1, 17, 33, 3]
            .into_iter()
            .zip(1..)
            .map(|(count, seed)| tokens(seed, count, tiny.vocabulary))
            .collect();
        let expected: Vec<Vec<u32>> =
            prompts.iter().map(|prompt| bits(&logits(&mut model, prompt, 256))).collect();
        // All but the last token of each together, then the last tokens together.
        let mut together = load(&path, OPTIONS);
        let sequences: Vec<_> = prompts.iter().map(|_| together.open()).collect();
        let pairs = || sequences.iter().zip(&prompts);
        let beginnings: Vec<Chunk<'_>> = pairs()
            .filter(|(_, prompt)| prompt.len() > 1)
            .map(|(sequence, prompt)| Chunk {
                sequence: *sequence,
                tokens: &prompt[..prompt.len() - 1],
                logits: false,
            })
            .collect();
        assert!(together.step(&beginnings).expect("room").is_empty());
        let ends: Vec<Chunk<'_>> = pairs()
            .map(|(sequence, prompt)| Chunk {
                sequence: *sequence,
                tokens: &prompt[prompt.len() - 1..],
                logits: true,
            })
            .collect();
        let found = together.step(&ends).expect("room");
        let found: Vec<Vec<u32>> = found.rows().map(bits).collect();
        assert_eq!(found, expected, "{tiny:?}");
    }
}

#[test]
fn long_prompts_in_several_passes_are_the_same() {
    let tiny = Tiny::new("qwen3");
    let (_folder, path) = tiny.write();
    let mut model = load(&path, OPTIONS);
    let prompts =
        [tokens(1, 250, tiny.vocabulary), tokens(2, 200, tiny.vocabulary), tokens(3, 100, tiny.vocabulary)];
    let expected = prompts.each_ref().map(|prompt| bits(&logits(&mut model, prompt, 50)));
    let mut model = load(&path, OPTIONS);
    let chunks = prompts.each_ref().map(|tokens| Chunk { sequence: model.open(), tokens, logits: true });
    let found = model.step(&chunks).expect("room");
    assert_eq!(found.len(), 3);
    assert_eq!([0, 1, 2].map(|row| bits(found.row(row))), expected);
}

#[test]
fn cached_beginnings_and_forks_change_nothing() {
    for tiny in models() {
        let (_folder, path) = tiny.write();
        let mut model = load(&path, OPTIONS);
        let prompt = tokens(5, 50, tiny.vocabulary);
        let expected = bits(&logits(&mut model, &prompt, 256));
        let (sequence, cached) = model.open_with_prefix(&prompt);
        assert_eq!(cached, 48);
        let found = model.step(&[Chunk { sequence, tokens: &prompt[cached..49], logits: false }]);
        assert!(found.expect("room").is_empty());
        let fork = model.fork(sequence).expect("open");
        for sequence in [fork, sequence] {
            let found = model.step(&[Chunk { sequence, tokens: &prompt[49..], logits: true }]).expect("room");
            assert_eq!(bits(found.row(0)), expected, "{tiny:?}");
            assert_eq!(model.length(sequence), Some(50));
        }
    }
}
