//! GPT-2's printable spelling of bytes, in which byte-level vocabularies are written.

use std::collections::HashMap;

/// The character that stands for each byte.
///
/// Printable Latin-1 stands for itself; the other bytes, in order, are U+0100, U+0101, … (`bytes_to_unicode`
/// in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>).
pub(super) fn characters() -> Vec<char> {
    let mut next = 0x100;
    (0..=u8::MAX)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                let stand_in = char::from_u32(next).expect("U+0100 to U+0143 are characters");
                next += 1;
                stand_in
            }
        })
        .collect()
}

/// From the character that stands for a byte to the byte.
pub(super) fn spelling() -> HashMap<char, u8> {
    characters().into_iter().zip(0..=u8::MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::spelling;

    #[test]
    fn every_byte_has_one_spelling() {
        let spelling = spelling();
        assert_eq!(spelling.len(), 256);
        assert_eq!(spelling[&'A'], b'A');
        assert_eq!(spelling[&'Ġ'], b' ');
        assert_eq!(spelling[&'Ċ'], b'\n');
    }
}
