//! What an operator sets, and what he is told.

use std::time::{Duration, Instant};

use dividend_engine::packed::KvType;
use dividend_engine::{
    BackendKind, Engine, EngineError, EngineOptions, GenerateRequest, LoadProgress, PrefixSharing,
    SubmitError,
};

use crate::common::{greedy, read};
use crate::tiny::Tiny;

/// Bytes of the tiny model's keys and values for one token: one layer, one head of 16, in two bytes.
const KV_BYTES: u64 = 2 * 16 * 2;

fn load(options: EngineOptions) -> Result<Engine, EngineError> {
    let (_folder, path) = Tiny::new().write();
    Engine::load(&path, options)
}

#[test]
fn the_kv_cache_is_bounded_in_tokens_or_in_bytes_and_stored_as_told() {
    let sizes = |options| {
        let engine = load(options).expect("a sound file");
        let info = engine.info();
        (info.kv_bytes_per_token, info.kv_bytes, engine.stats().kv_blocks_total)
    };
    let options = || EngineOptions { kv_tokens: 160, ..EngineOptions::default() };
    assert_eq!(sizes(options()), (KV_BYTES, 160 * KV_BYTES, 10));
    let single = EngineOptions { kv_type: KvType::F32, ..options() };
    assert_eq!(sizes(single), (2 * KV_BYTES, 320 * KV_BYTES, 10));
    let in_bytes = EngineOptions { kv_bytes: Some(20 * 16 * KV_BYTES + 99), ..options() };
    assert_eq!(sizes(in_bytes.clone()), (KV_BYTES, 320 * KV_BYTES, 20));
    let both = EngineOptions { kv_type: KvType::F32, ..in_bytes };
    assert_eq!(sizes(both), (2 * KV_BYTES, 320 * KV_BYTES, 10));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |options| match load(options).expect_err("out of range") {
        EngineError::Option { option, .. } => option,
        other => panic!("{other}"),
    };
    let default = EngineOptions::default;
    assert_eq!(refused(EngineOptions { kv_bytes: Some(16 * KV_BYTES - 1), ..default() }), "kv_bytes");
    assert_eq!(refused(EngineOptions { kv_tokens: 15, ..default() }), "kv_tokens");
    let target = |target| EngineOptions { inter_token_target: Some(target), ..default() };
    assert_eq!(refused(target(Duration::from_micros(999))), "inter_token_target");
    assert_eq!(refused(target(Duration::from_secs(61))), "inter_token_target");
}

#[test]
fn beginnings_are_shared_as_far_as_the_operator_allows() {
    let cached = |prefix_sharing| {
        let engine =
            load(EngineOptions { prefix_sharing, ..EngineOptions::default() }).expect("a sound file");
        let mut counts = Vec::new();
        for tenant in [Some(1), Some(1), Some(2), None] {
            let request = GenerateRequest { tenant, ..greedy(&[7; 40], 2) };
            read(engine.submit(request).expect("a sound request"));
            counts.push(engine.stats().cached_prompt_tokens);
        }
        counts
    };
    assert_eq!(cached(PrefixSharing::All), [0, 32, 64, 96]);
    assert_eq!(cached(PrefixSharing::Tenant), [0, 32, 32, 32]);
    assert_eq!(cached(PrefixSharing::Off), [0; 4]);
}

#[test]
fn a_request_that_comes_too_late_is_refused_and_counted() {
    let engine = load(EngineOptions::default()).expect("a sound file");
    let late = GenerateRequest { deadline: Some(Instant::now()), ..greedy(&[1], 1) };
    assert_eq!(engine.submit(late).expect_err("too late"), SubmitError::Late);
    assert!(!SubmitError::Late.is_retryable());
    let in_time = Some(Instant::now() + Duration::from_secs(3_600));
    let answer =
        read(engine.submit(GenerateRequest { deadline: in_time, ..greedy(&[1], 3) }).expect("in time"));
    let stats = engine.stats();
    assert_eq!((stats.refused.late, stats.finished, stats.queue_wait.count()), (1, 1, 1));
    let (first, others) = (stats.time_to_first_token.count(), stats.inter_token.count());
    assert_eq!(first + others, answer.usage.completion_tokens as u64);
}

#[test]
fn loading_tells_how_far_it_is() {
    let (_folder, path) = Tiny::new().write();
    for backend in [BackendKind::Packed, BackendKind::Candle] {
        let mut told: Vec<LoadProgress> = Vec::new();
        let options = EngineOptions { backend, ..EngineOptions::default() };
        let engine = Engine::load_with_progress(&path, options, |progress| told.push(progress));
        let info = engine.expect("a sound file").info().clone();
        let total = told[0].total;
        assert_eq!((told[0].done, told.last().map(|progress| progress.done)), (0, Some(total)));
        assert!(
            told.windows(2).all(|pair| pair[0].done < pair[1].done && pair[1].total == total),
            "{told:?}"
        );
        assert!(info.weight_bytes > 0 && total < info.file_bytes, "{info:?}");
    }
}
