//! What adapters cost: sixteen streams of one model with 0, 1, 16 and 32 adapters of rank 16, side by side.
//!
//! `cargo run -p dividend-engine --example lora -- MODEL.gguf [threads] [rounds]`. The adapters are random and written to a
//! temporary folder. Modes take turns, so that what else the machine does falls on all alike; CPU time is what the process
//! used, waiting for each other included. The 32 adapters are used by 32 streams, sixteen in each step by turns.
#![expect(clippy::print_stdout, reason = "its result")]

#[path = "../tests/packed/peft.rs"]
mod peft;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use dividend_engine::packed::{Chunk, KvType, Options, PackedModel, SequenceId};
use dividend_engine::{Adapter, Gguf};
use peft::{Modules, Peft};

/// Streams of a step, tokens of each prompt, steps of a turn.
const STREAMS: usize = 16;
const PROMPT: usize = 32;
const STEPS: usize = 8;

/// One way of using adapters, and what it took.
struct Mode {
    name: String,
    /// Steps by turns.
    sets: Vec<Vec<SequenceId>>,
    steps: usize,
    wall: Duration,
    cpu: Duration,
    /// Time of each turn's quickest step.
    best: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let path = Path::new(arguments.get(1).ok_or("usage: lora MODEL.gguf [threads] [rounds]")?);
    let number = |index: usize, default| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let (threads, rounds): (usize, usize) = (number(2, 1)?, number(3, 10)?);
    let gguf = Gguf::read(path)?;
    let blocks = 9 * 33 * (PROMPT + 2 * STEPS * (rounds + 1)).div_ceil(16);
    let options = Options { threads, isa: None, kv_blocks: blocks, kv_type: KvType::F16, context_cap: 8192 };
    let mut model = PackedModel::load(path, &gguf, options)?;
    let folder = tempfile::TempDir::new()?;
    let mut modes = vec![mode(&mut model, "no adapters", &[])?];
    for (label, names) in [("q,v", &["q_proj", "v_proj"][..]), ("all seven", &[])] {
        let adapters = adapters(&gguf, &model, folder.path(), label, names)?;
        println!("{label}: {:.2} MB each", adapters[0].info().bytes as f64 / 1e6);
        for count in [1, 16, 32] {
            modes.push(mode(&mut model, &format!("{count} × {label}"), &adapters[..count])?);
        }
    }
    for round in 0..=rounds {
        for mode in &mut modes {
            turn(&mut model, mode, round > 0)?;
        }
    }
    let base = (rate(&modes[0], modes[0].wall), rate(&modes[0], modes[0].cpu), modes[0].best);
    println!(
        "{:<16} {:>11} {:>8} {:>13} {:>8} {:>13} {:>8}",
        "", "tok/s", "", "tok/CPU-s", "", "best ms/step", ""
    );
    for mode in &modes {
        let (wall, cpu) = (rate(mode, mode.wall), rate(mode, mode.cpu));
        println!(
            "{:<16} {wall:>11.1} {:>7.1}% {cpu:>13.1} {:>7.1}% {:>13.3} {:>7.1}%",
            mode.name,
            100.0 * (wall / base.0 - 1.0),
            100.0 * (cpu / base.1 - 1.0),
            mode.best.as_secs_f64() * 1e3,
            100.0 * (base.2.as_secs_f64() / mode.best.as_secs_f64() - 1.0),
        );
    }
    Ok(())
}

/// Tokens per second.
fn rate(mode: &Mode, time: Duration) -> f64 {
    (mode.steps * STREAMS) as f64 / time.as_secs_f64()
}

/// Thirty-two adapters of the named modules, or of all.
fn adapters(
    gguf: &Gguf,
    model: &PackedModel,
    folder: &Path,
    label: &str,
    names: &[&str],
) -> Result<Vec<Adapter>, Box<dyn Error>> {
    let mut modules = modules(gguf)?;
    modules.retain(|(name, ..)| names.is_empty() || names.contains(name));
    let layers = size(gguf, "block_count")?;
    let one = |seed: u64| -> Result<Adapter, Box<dyn Error>> {
        let folder = folder.join(format!("{label}-{seed}"));
        Peft { strength: 0.05, ..Peft::new(modules.clone(), layers, seed) }.write(&folder);
        Ok(Adapter::read(&folder, &model.adapter_base())?)
    };
    (0..32).map(one).collect()
}

fn size(gguf: &Gguf, key: &str) -> Result<usize, Box<dyn Error>> {
    let key = format!("{}.{key}", gguf.architecture()?);
    Ok(gguf.unsigned(&key).ok_or_else(|| format!("no {key}"))? as usize)
}

fn modules(gguf: &Gguf) -> Result<Modules, Box<dyn Error>> {
    let (width, hidden) = (size(gguf, "embedding_length")?, size(gguf, "feed_forward_length")?);
    let (heads, kv_heads) = (size(gguf, "attention.head_count")?, size(gguf, "attention.head_count_kv")?);
    let head = size(gguf, "attention.key_length").unwrap_or(width / heads);
    let (queries, kv) = (heads * head, kv_heads * head);
    Ok(vec![
        ("q_proj", queries, width),
        ("k_proj", kv, width),
        ("v_proj", kv, width),
        ("o_proj", width, queries),
        ("gate_proj", hidden, width),
        ("up_proj", hidden, width),
        ("down_proj", width, hidden),
    ])
}

/// Opens sixteen streams for each sixteen adapters, and reads their prompts.
fn mode(model: &mut PackedModel, name: &str, adapters: &[Adapter]) -> Result<Mode, Box<dyn Error>> {
    let mut sets = Vec::new();
    for set in 0..adapters.len().div_ceil(STREAMS).max(1) {
        let mut sequences = Vec::new();
        for stream in 0..STREAMS {
            let adapter = adapters.get((set * STREAMS + stream) % adapters.len().max(1));
            let sequence = match adapter {
                Some(adapter) => model.open_with_adapter(&[], adapter)?.0,
                None => model.open(),
            };
            let prompt: Vec<u32> = (0..PROMPT).map(|token| (stream * 1000 + token) as u32).collect();
            model.step(&[Chunk { sequence, tokens: &prompt, logits: false }])?;
            sequences.push(sequence);
        }
        sets.push(sequences);
    }
    Ok(Mode {
        name: name.to_owned(),
        sets,
        steps: 0,
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
        best: Duration::MAX,
    })
}

/// Some steps of one mode; the first time is not counted.
fn turn(model: &mut PackedModel, mode: &mut Mode, counted: bool) -> Result<(), Box<dyn Error>> {
    let (start, used) = (Instant::now(), cpu_time());
    let mut best = Duration::MAX;
    // As many for each stream, however many sets there are.
    for step in 0..STEPS * mode.sets.len() {
        let start = Instant::now();
        let set = &mode.sets[step % mode.sets.len()];
        let token = [step as u32 + 100];
        let chunks: Vec<_> =
            set.iter().map(|sequence| Chunk { sequence: *sequence, tokens: &token, logits: true }).collect();
        model.step(&chunks)?;
        best = best.min(start.elapsed());
    }
    if counted {
        mode.steps += STEPS * mode.sets.len();
        mode.wall += start.elapsed();
        mode.cpu += cpu_time().saturating_sub(used);
        mode.best = mode.best.min(best);
    }
    Ok(())
}

/// Time on processors of all threads of this process.
fn cpu_time() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let time = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.flatten().filter_map(time).sum()
}
