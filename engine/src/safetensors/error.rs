/// What makes a safetensors file unusable. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafeTensorsError {
    /// The file ends before what it announces.
    #[error("it is cut short: the header needs {needed} bytes, the file has {found}")]
    Truncated {
        /// What the header needs, its length included.
        needed: u64,
        /// The file's size.
        found: u64,
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
    /// The header is no JSON of the format, or its tensors overlap, leave gaps, leave the file or are not as long as
    /// their shapes say.
    #[error("{0}")]
    Malformed(String),
}
