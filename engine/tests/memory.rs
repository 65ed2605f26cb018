//! What loading takes, measured by the operating system. The only test of its process.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dividend_engine::{Engine, EngineOptions, Event, GenerateRequest, LoadProgress, Sampling};

/// What the process needs beside the weights and the KV cache: the tokenizer's tables, while they are made, of a
/// vocabulary of 49,152 tokens, and the memory that a pass of 256 rows works in. Measured: 32 MiB beyond the weights, of
/// which a quarter of those may be 23.
const PROCESS_BYTES: u64 = 24 << 20;

/// The limit of the KV cache.
const KV_BYTES: u64 = 1 << 30;

fn model_path() -> PathBuf {
    const CACHED: &str = ".cache/models/smollm2-135m-instruct-q4_1.gguf";
    if let Some(path) = std::env::var_os("DIVIDEND_MODEL") {
        return path.into();
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.map(|folder| folder.join(CACHED)).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no {CACHED} above {}: run tools/setup.sh or set DIVIDEND_MODEL", env!("CARGO_MANIFEST_DIR"))
    })
}

/// A figure of the process in bytes: `VmHWM` is the most memory that it has ever had.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with(name)).expect("Linux tells it");
    let kilobytes: u64 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes << 10
}

#[test]
fn memory_stays_within_the_packed_weights_and_a_quarter() {
    let before = status("VmRSS");
    let told = Mutex::new(Vec::new());
    let progress = |progress: LoadProgress| told.lock().expect("no panic").push(progress);
    // More than is used: what is not used must not count.
    let options =
        EngineOptions { kv_bytes: Some(KV_BYTES), context_cap: Some(2_048), ..EngineOptions::default() };
    let engine = Engine::load_with_progress(&model_path(), options, progress).expect("the real model loads");
    let info = engine.info();
    assert!(info.kv_bytes <= KV_BYTES && info.kv_bytes > KV_BYTES - 16 * info.kv_bytes_per_token);

    let told = told.into_inner().expect("no panic");
    let total = told[0].total;
    assert!(told.len() > 20 && total > info.file_bytes / 10 * 9, "{} times, of {total}", told.len());
    assert_eq!((told[0].done, told[told.len() - 1].done), (0, total));
    assert!(told.windows(2).all(|pair| pair[0].done < pair[1].done), "it only grows: {told:?}");

    let allowed = info.weight_bytes / 4 * 5 + PROCESS_BYTES;
    let loaded = status("VmHWM") - before;
    println!("weights {} KiB, peak {} KiB of {} KiB", info.weight_bytes >> 10, loaded >> 10, allowed >> 10);
    assert!(loaded <= allowed, "loading took {loaded} bytes, {allowed} are allowed");
    let resident = status("VmRSS") - before;
    assert!(resident <= allowed, "{resident} bytes stay");

    let prompt: Vec<u32> = (0..600).map(|token| 1_000 + token * 7).collect();
    // Where the system lends memory in pages of 2 MiB unasked, what is used of it does not tell; the limit holds.
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let used = match huge {
        Ok(setting) if setting.contains("[always]") => KV_BYTES,
        _ => (prompt.len() as u64 + 16) * info.kv_bytes_per_token,
    };
    let request = GenerateRequest { sampling: Sampling::GREEDY, ..GenerateRequest::new(prompt, 1) };
    let mut generation = engine.submit(request).expect("it fits");
    let end = std::iter::from_fn(|| generation.blocking_next()).last();
    assert!(matches!(end, Some(Event::Finished { .. })), "{end:?}");
    let computed = status("VmHWM") - before;
    println!("after a prompt {} KiB, {} KiB of it keys and values", computed >> 10, used >> 10);
    assert!(computed <= allowed + used, "{computed} bytes after a prompt, {} are allowed", allowed + used);
}
