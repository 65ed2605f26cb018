//! Where a JSON value ends, in text that comes in pieces.

/// Looks for the end of an object or array, over any number of pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    begun: bool,
}

/// What a scan has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The value goes on.
    More,
    /// The value ends before this byte.
    End(usize),
    /// There is something else.
    Other,
}

impl Scan {
    /// Goes on with `text`, which must follow what was scanned before. White space may precede the value, which begins
    /// with `first`.
    pub(super) fn go_on(&mut self, text: &str, first: u8) -> Found {
        for (index, byte) in text.bytes().enumerate() {
            if !self.begun {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => continue,
                    byte if byte == first => self.begun = true,
                    _ => return Found::Other,
                }
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    // The first byte has made it at least 1.
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Found::End(index + 1);
                    }
                }
                _ => {}
            }
        }
        Found::More
    }
}
