//! Adapters of an engine: loaded, replaced, evicted and read again while it answers.

use std::path::PathBuf;

use dividend_engine::{
    Adapter, AdapterError, BackendKind, Engine, EngineOptions, Event, GenerateRequest, SubmitError,
};
use tempfile::TempDir;

use crate::common::{Answer, greedy, read};
use crate::peft::Peft;
use crate::tiny::{HIDDEN, KV_WIDTH, Tiny, WIDTH};

/// A small model with adapters beside it, in a folder that lives as long.
struct Rig {
    engine: Engine,
    folder: TempDir,
}

impl Rig {
    fn new(options: EngineOptions) -> Self {
        let (folder, path) = Tiny::new().write();
        let engine = Engine::load(&path, EngineOptions { threads: 2, ..options }).expect("a sound model");
        Self { engine, folder }
    }

    /// Writes the adapter with a seed.
    fn write(&self, seed: u64) -> PathBuf {
        let folder = self.folder.path().join(format!("adapter-{seed}"));
        let (width, kv, hidden) = (WIDTH as usize, KV_WIDTH as usize, HIDDEN as usize);
        let modules = vec![
            ("q_proj", width, width),
            ("v_proj", kv, width),
            ("up_proj", hidden, width),
            ("down_proj", width, hidden),
        ];
        Peft { strength: 2.0, ..Peft::new(modules, 1, seed) }.write(&folder);
        folder
    }

    fn load(&self, name: &str, seed: u64) -> Adapter {
        self.engine.adapters().load(name, &self.write(seed)).expect("a sound adapter and room for it");
        self.engine.adapters().get(name).expect("just loaded")
    }

    fn answer(&self, adapter: Option<&Adapter>) -> Answer {
        read(self.engine.submit(request(adapter)).expect("room in the queue"))
    }
}

fn request(adapter: Option<&Adapter>) -> GenerateRequest {
    GenerateRequest { adapter: adapter.cloned(), ..greedy(&[104, 105, 32, 33], 200) }
}

/// Memory of one of the rig's adapters.
fn bytes_of_one() -> usize {
    let rig = Rig::new(EngineOptions::default());
    rig.load("one", 1).info().bytes
}

#[test]
fn a_running_answer_keeps_the_version_that_it_began_with() {
    let rig = Rig::new(EngineOptions::default());
    let (old, base) = (rig.load("style", 1), rig.answer(None));
    let expected = rig.answer(Some(&old));
    assert_ne!(expected, base, "the adapter changes nothing");
    let mut running = rig.engine.submit(request(Some(&old))).expect("room in the queue");
    let begun = running.blocking_next();
    assert!(matches!(begun, Some(Event::Prefilled { .. })), "{begun:?}");
    let new = rig.load("style", 2);
    assert_ne!(old, new);
    let others = rig.answer(Some(&new));
    assert!(others != expected && others != base);
    rig.engine.adapters().unload("style").expect("it is loaded");
    assert_eq!(rig.engine.adapters().resident("style"), None);
    let (mut text, mut tokens) = (String::new(), 0);
    while let Some(event) = running.blocking_next() {
        if let Event::Token { text: piece, tokens: more, .. } = event {
            text.push_str(&piece);
            tokens += more;
        }
    }
    assert_eq!((text, tokens), (expected.text.clone(), expected.usage.completion_tokens));
    assert_eq!(rig.answer(Some(&old)), expected, "a handle outlives the name");
    assert_eq!(rig.engine.adapters().usage().bytes, old.info().bytes + new.info().bytes);
    drop((old, new));
    assert_eq!(rig.engine.adapters().usage().bytes, 0, "the scheduler lets go before the last event");
}

#[test]
fn answers_under_many_adapters_are_those_alone_while_names_change() {
    let rig = Rig::new(EngineOptions { max_sequences: 8, ..EngineOptions::default() });
    let versions: Vec<Adapter> = (0..6).map(|seed| rig.load(&format!("one-{seed}"), seed)).collect();
    let expected: Vec<Answer> = versions.iter().map(|version| rig.answer(Some(version))).collect();
    let base = rig.answer(None);
    for round in 0..4 {
        let running: Vec<_> = (0..14)
            .map(|index| (index % 7, request(versions.get(index % 7))))
            .map(|(which, request)| (which, rig.engine.submit(request).expect("room in the queue")))
            .collect();
        for seed in 0..6 {
            rig.load(&format!("one-{seed}"), 10 * round + seed);
        }
        for (which, generation) in running {
            assert_eq!(read(generation), *expected.get(which).unwrap_or(&base), "adapter {which}");
        }
    }
}

#[test]
fn the_longest_unused_adapters_are_evicted_and_read_again_when_asked_for() {
    let one = bytes_of_one();
    let rig = Rig::new(EngineOptions { adapter_bytes: 5 * one / 2, ..EngineOptions::default() });
    let adapters = rig.engine.adapters();
    let first = rig.load("a", 1);
    let expected = rig.answer(Some(&first));
    drop(first);
    for (name, seed) in [("b", 2), ("c", 3)] {
        drop(rig.load(name, seed));
    }
    let usage = adapters.usage();
    assert_eq!((usage.known, usage.resident, usage.evictions, usage.reloads), (3, 2, 1, 0));
    assert!(usage.bytes == 2 * one && usage.bytes <= usage.limit);
    assert_eq!(adapters.resident("a"), None);
    assert_eq!(adapters.list().iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let again = adapters.get("a").expect("its files are there");
    assert_eq!(rig.answer(Some(&again)), expected);
    assert_eq!((adapters.usage().evictions, adapters.usage().reloads), (2, 1));
    assert!(adapters.resident("b").is_none(), "the longest unused went");
    let also = adapters.resident("c").expect("the other stayed");
    // Two are in use and there is no room for a third, whoever asks.
    let error = adapters.get("b").expect_err("no room");
    assert!(matches!(error, AdapterError::NoRoom { needed, in_use, limit }
        if (needed, in_use, limit) == (one, 2 * one, 5 * one / 2)));
    assert!(error.is_retryable());
    assert!(matches!(adapters.load("d", &rig.write(4)), Err(AdapterError::NoRoom { .. })));
    drop(also);
    drop(adapters.get("b").expect("c made room"));
    assert_eq!(adapters.usage().resident, 2);
}

#[test]
fn what_cannot_be_loaded_leaves_the_old_version() {
    let rig = Rig::new(EngineOptions::default());
    let (adapters, old) = (rig.engine.adapters(), rig.load("style", 1));
    let folder = rig.write(2);
    std::fs::write(folder.join("adapter_config.json"), "{}").expect("room on the disk");
    assert!(adapters.load("style", &folder).is_err());
    assert!(matches!(adapters.load("style", &folder.join("absent")), Err(AdapterError::Io { .. })));
    assert_eq!(adapters.get("style").expect("still there"), old);
    for name in ["", &"x".repeat(257)] {
        assert!(matches!(adapters.load(name, &folder), Err(AdapterError::Name { .. })));
    }
    assert!(matches!(adapters.get("poems"), Err(AdapterError::Unknown { .. })));
    assert!(matches!(adapters.unload("poems"), Err(AdapterError::Unknown { .. })));
}

#[test]
fn files_that_changed_are_not_taken_for_those_that_were_loaded() {
    let one = bytes_of_one();
    let rig = Rig::new(EngineOptions { adapter_bytes: one, ..EngineOptions::default() });
    drop(rig.load("a", 1));
    drop(rig.load("b", 2));
    let (changed, original) = (rig.write(3), rig.folder.path().join("adapter-1"));
    let name = "adapter_model.safetensors";
    std::fs::copy(changed.join(name), original.join(name)).expect("room on the disk");
    let error = rig.engine.adapters().get("a").expect_err("other weights");
    assert!(matches!(error, AdapterError::Changed { .. }), "{error}");
    let too_small = Rig::new(EngineOptions { adapter_bytes: one / 2, ..EngineOptions::default() });
    let error = too_small.engine.adapters().load("a", &too_small.write(1)).expect_err("no room ever");
    assert!(matches!(error, AdapterError::NoRoom { .. }), "{error}");
}

#[test]
fn the_candle_backend_refuses_adapters_by_name() {
    let packed = Rig::new(EngineOptions::default());
    let adapter = packed.load("style", 1);
    let candle = Rig::new(EngineOptions { backend: BackendKind::Candle, ..EngineOptions::default() });
    assert_eq!(candle.engine.info().backend, "candle");
    match candle.engine.adapters().load("style", &candle.write(1)) {
        Err(AdapterError::Unsupported { found, .. }) => assert_eq!(found, "candle"),
        other => panic!("{other:?}"),
    }
    match candle.engine.submit(request(Some(&adapter))).map(drop) {
        Err(SubmitError::Invalid { field, expected, .. }) => {
            assert_eq!(field, "adapter");
            assert!(expected.contains("candle"), "{expected}");
        }
        other => panic!("{other:?}"),
    }
}
