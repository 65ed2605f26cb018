//! The header of a model file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dividend_engine::fuzzing::header(bytes);
});
