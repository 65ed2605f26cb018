use std::io;

/// What makes a GGUF file unusable. Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The first four bytes are not "GGUF".
    #[error("it starts with {found:02x?} instead of \"GGUF\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version that is not understood.
    #[error("it has version {found}; versions 2 and 3 are understood")]
    Version {
        /// The declared version.
        found: u32,
    },
    /// The file ends before what it announces.
    #[error("it is cut short: {what} at byte {offset} needs {needed} bytes, {remaining} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where.
        offset: u64,
        /// How much it needs.
        needed: u64,
        /// How much there is.
        remaining: u64,
    },
    /// A count or length that no real model has.
    #[error("{what} is {found}; at most {limit} is accepted")]
    TooMuch {
        /// What is counted.
        what: String,
        /// The declared value.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A value that the format does not allow.
    #[error("{what} is {found}; it must be {expected}")]
    Invalid {
        /// What is invalid.
        what: String,
        /// Its value.
        found: String,
        /// What the format allows.
        expected: &'static str,
    },
    /// Two entries share a name, or two tensors share bytes.
    #[error("{what} {name:?} {problem}")]
    Clash {
        /// "key" or "tensor".
        what: &'static str,
        /// Its name.
        name: String,
        /// How they clash.
        problem: String,
    },
    /// The operating system failed to read.
    #[error("read failed: {0}")]
    Io(#[from] io::Error),
}
