//! What the tests of the engine share.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use dividend_engine::{
    Engine, EngineOptions, Event, FinishReason, GenerateRequest, Generation, Sampling, Usage,
};

/// The real model: `DIVIDEND_MODEL`, or `.cache/models/…` in a folder above this crate.
pub fn model_path() -> PathBuf {
    if let Some(path) = std::env::var_os("DIVIDEND_MODEL") {
        return path.into();
    }
    cached("smollm2-135m-instruct-q4_1.gguf")
}

/// A model in `.cache/models` in a folder above this crate.
pub fn cached(file: &str) -> PathBuf {
    let crate_folder = env!("CARGO_MANIFEST_DIR");
    let above = Path::new(crate_folder).ancestors();
    above
        .map(|folder| folder.join(".cache/models").join(file))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no .cache/models/{file} above {crate_folder}: run tools/setup.sh test"))
}

/// The real model, loaded, and a lock that keeps other tests from loading theirs at the same time.
///
/// candle's threads wait for each other by spinning: two processes on the same cores would take ten times
/// as long as one after the other.
pub struct RealEngine {
    engine: Engine,
    _turn: File,
}

impl Deref for RealEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// Loads the real model when its turn comes.
pub fn engine(options: EngineOptions) -> RealEngine {
    engine_of(&model_path(), options)
}

/// Loads a model when its turn comes.
pub fn engine_of(path: &Path, options: EngineOptions) -> RealEngine {
    let turn = File::open(model_path()).expect("the real model is readable");
    turn.lock().expect("files can be locked here");
    RealEngine { engine: Engine::load(path, options).expect("a real model loads"), _turn: turn }
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    pub reason: FinishReason,
    pub usage: Usage,
}

/// Reads a generation to its end and checks that its parts sum up.
pub fn read(mut generation: Generation) -> Answer {
    let (mut text, mut prefilled, mut generated) = (String::new(), 0, 0);
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Prefilled { tokens } => prefilled += tokens,
            Event::Token { text: piece, tokens, .. } => {
                text.push_str(&piece);
                generated += tokens;
            }
            Event::Finished { reason, usage, .. } => {
                assert_eq!((usage.prompt_tokens, usage.completion_tokens), (prefilled, generated));
                assert_eq!(generation.blocking_next(), None);
                return Answer { text, reason, usage };
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
    panic!("the stream ended without a last event");
}

/// Computes an answer.
pub fn answer(engine: &Engine, request: GenerateRequest) -> Answer {
    read(engine.submit(request).expect("a sound request"))
}

/// A greedy request.
pub fn greedy(prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest { sampling: Sampling::GREEDY, ..GenerateRequest::new(prompt.to_vec(), max_tokens) }
}
