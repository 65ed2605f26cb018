//! Thousands of broken files made from a sound one: each ends in a model or a typed error, in bounded memory and work.

mod allocator;
mod mutate;
#[expect(dead_code, reason = "written for the tests of the engine, which use more of it")]
#[path = "../engine/tiny.rs"]
mod tiny;

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dividend_engine::gguf::Gguf;
use dividend_engine::{ChatMessage, Engine, EngineError, EngineOptions, GenerateRequest};

use allocator::Taken;
use mutate::{Random, mutant};

/// A header of 8 KiB may become a model description of this size, and no more.
const MAX_HEADER_MEMORY: usize = 4 << 20;
/// A file of 70 KiB may become a model of this size: its buffers for 256 rows are the most of it.
const MAX_MODEL_MEMORY: usize = 48 << 20;
/// All memory that was ever asked for in one case, a measure of the work that it makes.
const MAX_ALLOCATED: usize = 256 << 20;

/// What is measured is the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what is read.
struct Counted<'a> {
    inner: Cursor<&'a [u8]>,
    read: &'a mut usize,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        *self.read += read;
        Ok(read)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn any_header_is_read_in_bounds() {
    let _alone = alone();
    let (mut sound, mut broken) = (0, 0);
    for seed in 0..20_000 {
        let bytes = mutant(&mut Random::new(seed));
        let mut read = 0;
        let taken = Taken::now();
        let parsed = Gguf::parse(Counted { inner: Cursor::new(&bytes), read: &mut read });
        let (peak, allocated) = taken.since();
        match &parsed {
            Ok(gguf) => {
                sound += 1;
                let data: u64 = gguf.tensors().iter().map(|tensor| tensor.bytes).sum();
                assert!(data <= bytes.len() as u64, "seed {seed}: tensors share bytes");
            }
            Err(error) => {
                broken += 1;
                assert!(error.to_string().len() < 2_000, "seed {seed}: {error}");
            }
        }
        assert!(peak <= MAX_HEADER_MEMORY, "seed {seed}: {peak} bytes");
        assert!(allocated <= MAX_ALLOCATED, "seed {seed}: {allocated} bytes in all");
        assert!(read <= bytes.len() + (1 << 16), "seed {seed}: {read} of {} bytes read", bytes.len());
    }
    assert!(sound > 1_000 && broken > 5_000, "{sound} sound, {broken} broken: the mutations are one-sided");
}

/// What an operator and his callers do with a model that loads.
fn use_it(engine: &Engine) -> Result<(), EngineError> {
    engine.tokenize("he said <|end|> \u{1f600} 123")?;
    engine.detokenize(&[0, 5, 256, 257, u32::MAX]);
    // A template may be anything; it fails or it does not.
    let _ = engine.encode_chat(&[ChatMessage::new("user", "hello <|end|>")]);
    let context = engine.info().context_length;
    if let Ok(mut generation) = engine.submit(GenerateRequest::new(vec![1; 3.min(context)], 2)) {
        while generation.blocking_next().is_some() {}
    }
    Ok(())
}

#[test]
fn any_file_loads_or_is_refused() {
    let _alone = alone();
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = folder.path().join("mutant.gguf");
    let options = EngineOptions { threads: 1, kv_tokens: 1_024, ..EngineOptions::default() };
    let (mut loaded, mut refused) = (0, 0);
    for seed in 0..2_000 {
        // Seeds of their own, where more is left intact.
        let bytes = mutant(&mut Random::new(1 << 32 | seed));
        std::fs::write(&path, &bytes).expect("the temporary folder is writable");
        let taken = Taken::now();
        match Engine::load(&path, options.clone()) {
            Ok(engine) => {
                loaded += 1;
                use_it(&engine).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                // A panic that was caught would come as one of these.
                assert!(!text.contains("panicked"), "seed {seed}: {text}");
                assert!(text.len() < 4_000, "seed {seed}: {text}");
            }
        }
        let (peak, allocated) = taken.since();
        assert!(peak <= MAX_MODEL_MEMORY, "seed {seed}: {peak} bytes");
        assert!(allocated <= MAX_ALLOCATED, "seed {seed}: {allocated} bytes in all");
    }
    assert!(loaded > 100 && refused > 300, "{loaded} loaded, {refused} refused: the mutations are one-sided");
}
