//! A chat template, and what a caller says. What he says is what follows the last zero byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (source, content) = text.rsplit_once('\0').unwrap_or((&text, "hello"));
    dividend_engine::fuzzing::template(source, content);
});
