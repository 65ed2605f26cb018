//! Prompt and answer tokens per second of a model, alone and with eight streams, as one line of JSON:
//! `cargo run -p dividend-engine --example throughput -- model.gguf [prompt tokens] [answer tokens]`.

use std::path::Path;
use std::time::Instant;

use dividend_engine::{
    Engine, EngineError, EngineOptions, Event, GenerateRequest, Generation, Sampling, SubmitError,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: throughput MODEL.gguf [prompt tokens] [answer tokens]")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (prompt, answer) = (number(512)?, number(64)?);
    let start = Instant::now();
    let engine = load(Path::new(&path))?;
    let load_ms = start.elapsed().as_millis();
    let prefill = prefill(&engine, prompt)?;
    let one = decode(&engine, 1, answer)?;
    let eight = decode(&engine, 8, answer)?;
    println!(
        "{}",
        serde_json::json!({
            "model": engine.info().name,
            "backend": engine.info().backend,
            "load_ms": load_ms as u64,
            "prompt_tokens": prompt,
            "answer_tokens": answer,
            "prefill_tok_s": prefill,
            "decode_tok_s": { "1": one, "8": eight },
        })
    );
    Ok(())
}

fn load(path: &Path) -> Result<Engine, EngineError> {
    Engine::load(path, EngineOptions { max_sequences: 8, ..EngineOptions::default() })
}

/// Tokens per second of one prompt, up to its first answer token.
fn prefill(engine: &Engine, tokens: usize) -> Result<f64, SubmitError> {
    let start = Instant::now();
    finish(engine.submit(request(tokens, 1))?);
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// Answer tokens per second over all of `streams`, leaving out the time for their short prompts.
fn decode(engine: &Engine, streams: usize, tokens: usize) -> Result<f64, SubmitError> {
    let before = engine.stats();
    let running: Vec<Generation> =
        (0..streams).map(|_| engine.submit(request(8, tokens))).collect::<Result<_, _>>()?;
    running.into_iter().for_each(finish);
    let after = engine.stats();
    // The first token of each stream comes out of its prompt's last step.
    let decoded = after.generated_tokens - before.generated_tokens - streams as u64;
    Ok(decoded as f64 / (after.decode_time - before.decode_time).as_secs_f64())
}

/// A request over arbitrary tokens; sampling with a high temperature keeps the model from ending early.
fn request(prompt: usize, max_tokens: usize) -> GenerateRequest {
    let prompt = (0..prompt).map(|index| 1_000 + (index as u32 * 37) % 20_000).collect();
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, seed: Some(1) };
    GenerateRequest { sampling, ..GenerateRequest::new(prompt, max_tokens) }
}

fn finish(mut generation: Generation) {
    while let Some(event) = generation.blocking_next() {
        if let Event::Failed(error) = event {
            eprintln!("{error}");
        }
    }
}
