//! `dividend bench engine`: what inference gives on this machine, in the form of llama-bench.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dividend_engine::packed::{Isa, bounds};
use dividend_engine::{BackendKind, Engine, EngineOptions, Event, GenerateRequest, Generation, Sampling};
use serde::Serialize;

use crate::args::Global;
use crate::failure::{Failure, OrFail};
use crate::output::{answer, say};

/// Tokens of the prompts that decoding begins with.
const SHORT_PROMPT: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tokens per second of a model, by our kernels and by stock candle, and what the machine gives at most.
    Engine(EngineBench),
}

#[derive(Debug, clap::Args)]
struct EngineBench {
    /// GGUF file.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Tokens of the prompt that is timed.
    #[arg(long, value_name = "N", default_value = "512")]
    prompt: NonZeroUsize,
    /// Tokens that each stream generates.
    #[arg(long, value_name = "N", default_value = "128")]
    generate: NonZeroUsize,
    /// Streams at once.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16")]
    concurrency: Vec<NonZeroUsize>,
    /// Threads that compute; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Prompt tokens of one step.
    #[arg(long, value_name = "N", default_value_t = 256)]
    chunk: usize,
    /// Times that each figure is taken; the median counts.
    #[arg(long, value_name = "N", default_value = "3")]
    runs: NonZeroUsize,
    /// Leave candle out: it is slow.
    #[arg(long)]
    no_candle: bool,
}

/// Figures of one backend, in tokens per second.
#[derive(Debug, Serialize)]
struct Figures {
    prefill_tok_s: f64,
    /// By streams at once, all together.
    decode_tok_s: BTreeMap<usize, f64>,
}

#[derive(Debug, Serialize)]
struct Bounds {
    /// Reads from memory, 10⁹ bytes per second.
    read_gb_s: f64,
    /// Products and sums of eight-bit integers, 10⁹ per second.
    int8_gops: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    backend: String,
    threads: usize,
    load_ms: u64,
    #[serde(flatten)]
    ours: Figures,
    stock_candle: Option<Figures>,
    bounds: Bounds,
    /// Decoding one stream, as a part of what the memory's bandwidth allows.
    decode_of_bound: f64,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Command::Engine(bench) = self.command;
        let report = bench.run()?;
        answer(global, &report, table)
    }
}

impl EngineBench {
    fn run(&self) -> anyhow::Result<Report> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if self.threads == 0 { cores } else { self.threads };
        say("measuring what the machine gives");
        let isa = Isa::detect();
        let bounds = Bounds {
            read_gb_s: bounds::read_gb_s(threads),
            int8_gops: bounds::int8_gops(isa, threads).or_fail("bounds", "use another machine")?,
        };
        let start = Instant::now();
        let engine = self.load(BackendKind::Packed)?;
        let load_ms = start.elapsed().as_millis() as u64;
        let (info, backend) = (engine.info().clone(), format!("{} {}", engine.info().backend, isa.name()));
        say(format_args!("measuring {backend}"));
        let ours = self.figures(&engine)?;
        drop(engine);
        let stock_candle = match self.no_candle {
            true => None,
            false => {
                say("measuring stock candle");
                Some(self.figures(&self.load(BackendKind::Candle)?)?)
            }
        };
        let alone = ours.decode_tok_s.get(&1).copied().unwrap_or(0.0);
        let decode_of_bound = alone * info.file_bytes as f64 / 1e9 / bounds.read_gb_s;
        Ok(Report {
            model: info.name,
            backend,
            threads,
            load_ms,
            ours,
            stock_candle,
            bounds,
            decode_of_bound,
        })
    }

    fn load(&self, backend: BackendKind) -> anyhow::Result<Engine> {
        let streams = self.concurrency.iter().map(|streams| streams.get()).max().unwrap_or(1);
        let tokens = (self.generate.get() + SHORT_PROMPT).next_multiple_of(16) * streams;
        let options = EngineOptions {
            backend,
            threads: self.threads,
            max_sequences: streams,
            prefill_chunk: self.chunk,
            kv_tokens: tokens.max(self.prompt.get() + 16) + 16 * streams,
            ..EngineOptions::default()
        };
        let remedy = "name a GGUF file of a supported family with --model";
        Engine::load(&self.model, options).or_fail(Path::new(&self.model).display(), remedy)
    }

    fn figures(&self, engine: &Engine) -> anyhow::Result<Figures> {
        let mut seed = 0;
        let mut figure = |prompt: usize, generate: usize, streams: usize, counted: usize| {
            let runs = (0..self.runs.get()).map(|_| {
                seed += streams;
                let start = Instant::now();
                let running: Vec<Generation> = (0..streams)
                    .map(|stream| engine.submit(request(prompt, generate, seed + stream)))
                    .collect::<Result<_, _>>()?;
                running.into_iter().try_for_each(finish)?;
                Ok(counted as f64 / start.elapsed().as_secs_f64())
            });
            let mut runs = runs.collect::<anyhow::Result<Vec<f64>>>()?;
            runs.sort_by(f64::total_cmp);
            anyhow::Ok(runs[runs.len() / 2])
        };
        let (prompt, generate) = (self.prompt.get(), self.generate.get());
        let prefill_tok_s = figure(prompt, 1, 1, prompt)?;
        let mut decode_tok_s = BTreeMap::new();
        for streams in self.concurrency.iter().map(|streams| streams.get()) {
            decode_tok_s.insert(streams, figure(SHORT_PROMPT, generate, streams, streams * generate)?);
        }
        Ok(Figures { prefill_tok_s, decode_tok_s })
    }
}

/// A request over tokens without meaning, other ones for each seed, so that nothing is found in the cache. Sampling keeps
/// the model from ending early, as greedy answers to nonsense do.
fn request(prompt: usize, max_tokens: usize, seed: usize) -> GenerateRequest {
    let scatter = |index: usize| ((seed * 7_919 + index).wrapping_mul(2_654_435_761) >> 7) % 20_000 + 1_000;
    let prompt = (0..prompt).map(|index| scatter(index) as u32).collect();
    let sampling = Sampling { seed: Some(seed as u64), ..Sampling::default() };
    GenerateRequest { sampling, ..GenerateRequest::new(prompt, max_tokens) }
}

fn finish(mut generation: Generation) -> anyhow::Result<()> {
    while let Some(event) = generation.blocking_next() {
        if let Event::Failed(error) = event {
            return Err(Failure::new(error, "run it on a machine with more memory, or fewer streams").into());
        }
    }
    Ok(())
}

fn table(report: &Report) -> String {
    let Report { model, backend, threads, load_ms, ours, stock_candle, bounds, decode_of_bound } = report;
    let mut lines = vec![
        format!("{model}, {threads} threads, loaded in {load_ms} ms; tokens per second"),
        format!("{:<16}{backend:>18}{:>14}", "", if stock_candle.is_some() { "stock candle" } else { "" }),
    ];
    let mut line = |what: String, ours: f64, candle: Option<f64>| {
        let candle = candle.map(|candle| format!("{candle:>14.1}")).unwrap_or_default();
        lines.push(format!("{what:<16}{ours:>18.1}{candle}"));
    };
    let candle = stock_candle.as_ref();
    line("prefill".to_owned(), ours.prefill_tok_s, candle.map(|candle| candle.prefill_tok_s));
    for (streams, tok_s) in &ours.decode_tok_s {
        let candle = candle.and_then(|candle| candle.decode_tok_s.get(streams).copied());
        line(format!("decode × {streams}"), *tok_s, candle);
    }
    lines.push(format!(
        "memory read {:.1} GB/s, of which decoding one stream uses {:.0} %; int8 {:.0} GOPS",
        bounds.read_gb_s,
        100.0 * decode_of_bound,
        bounds.int8_gops,
    ));
    lines.join("\n")
}
