//! The tokenizer that a header describes, and a text. The text is what follows the last byte 0xff.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().rposition(|byte| *byte == 0xff).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(cut + 1..).unwrap_or_default());
    dividend_engine::fuzzing::tokenizer(&bytes[..cut], &text);
});
