//! The crate's one error type.

use std::path::PathBuf;

use crate::flatten::FlattenError;
use crate::{ModelId, TrackId};

/// Result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is not an id.
    #[error("{text:?} is not an id: expected 0x and 64 hex digits")]
    BadId {
        /// The text, cut to a printable length.
        text: String,
    },
    /// No such model on the chain.
    #[error("model {0} is not registered on this chain")]
    UnknownModel(ModelId),
    /// No such track on the chain.
    #[error("track {0} does not exist on this chain")]
    UnknownTrack(TrackId),
    /// A name that is neither a track, nor `track@n`, nor a model id.
    #[error("no model {name:?}: expected the name of a track, NAME@N for its N-th champion, or a model id")]
    UnknownName {
        /// The name as given, cut to a printable length.
        name: String,
    },
    /// A model file that cannot be read or is not TOML of the right shape.
    #[error("model file {path}: {problem}")]
    ManifestFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A model file with values that the registry would refuse.
    #[error("model file {path} has {} bad value(s):\n  {}", problems.len(), problems.join("\n  "))]
    ManifestValues {
        /// The file.
        path: PathBuf,
        /// Every bad value, each with what would be right.
        problems: Vec<String>,
    },
    /// The model's terms cannot be met on its line.
    #[error("the lineage cannot be flattened: {0}")]
    Flatten(#[from] FlattenError),
    /// The chain refused or could not be reached.
    #[error(transparent)]
    Chain(#[from] dividend_chain::Error),
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Chain(e) if e.is_retryable())
    }
}
