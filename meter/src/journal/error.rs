//! What can be wrong with a journal.

use std::path::{Path, PathBuf};

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes that no writer left there.
    #[error("{path} is damaged at byte {offset}: {problem}; restore the file from a copy")]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Offset in the file.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

impl JournalError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, problem: impl ToString) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, problem: problem.to_string() }
    }
}
