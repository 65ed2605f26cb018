//! What can go wrong with an adapter.

use std::path::PathBuf;

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A file of it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// `adapter_config.json` is malformed, or a value in it is out of range.
    #[error("{}: {detail}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key, its value and what it should have been.
        detail: String,
    },
    /// `adapter_model.safetensors` is malformed.
    #[error("{} is not a usable safetensors file: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A tensor does not fit the base or the configuration.
    #[error("the adapter's tensor {name:?} {problem}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The adapter needs what this engine does not do.
    #[error("cannot apply this adapter: {what} is {found}; supported: {supported}")]
    Unsupported {
        /// A key of the configuration, or the backend.
        what: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        supported: String,
    },
    /// A file is larger than any adapter of this base, or than the limit.
    #[error("{} has {found} bytes; {limit} at most are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The adapters in use leave no room; the same call may succeed when a request has ended.
    #[error(
        "{needed} bytes for the adapter are not free: {in_use} of {limit} are taken by adapters in use. Try again later, \
         or raise the limit of adapters' memory"
    )]
    NoRoom {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes of the adapters that are in use.
        in_use: usize,
        /// `EngineOptions::adapter_bytes`.
        limit: usize,
    },
    /// Nothing is loaded under the name.
    #[error("no adapter is loaded as {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The name cannot be used.
    #[error("an adapter's name has {found} bytes; it must have from 1 to {limit}")]
    Name {
        /// Its length in bytes.
        found: usize,
        /// The longest.
        limit: usize,
    },
    /// There are too many adapters.
    #[error("{limit} adapters are loaded; unload one first")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// The files of an adapter that had to be read again are not those that were loaded.
    #[error("the files of adapter {name:?} have changed since it was loaded: load it again to use them")]
    Changed {
        /// The name.
        name: String,
    },
}

impl AdapterError {
    /// True if the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }
}
