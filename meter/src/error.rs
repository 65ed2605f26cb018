//! The crate's one error type.

use std::path::{Path, PathBuf};

use crate::journal::JournalError;
use crate::{CallId, Deployment};

/// Why metering could not do what it was asked. [`MeterError::refuses_calls`] tells a gateway when to stop admitting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// The journal could not be read, or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another process writes this journal.
    #[error(
        "{path} is held by process {pid}, which meters in the same directory; stop it, or use another --home"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder's pid as it wrote it, or `unknown`.
        pid: String,
    },
    /// The journal was begun for other contracts.
    #[error(
        "the journal in {dir} belongs to {found}, not to {expected}; use the deployment it was begun with, or a new directory"
    )]
    OtherDeployment {
        /// The meter's directory.
        dir: PathBuf,
        /// What the journal's header says.
        found: Deployment,
        /// What was asked for.
        expected: Deployment,
    },
    /// A seal of a window that the journal has not sealed: the journal is older than its seals.
    #[error(
        "{seal} seals window {sealed}, but the journal is only in window {window}; it was restored from an older copy: restore the newest journal"
    )]
    SealAhead {
        /// The seal file.
        seal: PathBuf,
        /// The window it seals.
        sealed: u64,
        /// The journal's open window.
        window: u64,
    },
    /// A record could not be appended. Nothing is lost: the call keeps its slot and is closed as soon as the disk takes
    /// it, but no new call may begin.
    #[error(
        "the journal takes no records: {problem}; {unclosed} calls wait to be closed. Free space on the disk of {path}"
    )]
    Append {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        problem: String,
        /// Ended calls whose CLOSE is still to be appended.
        unclosed: usize,
    },
    /// The disk failed to keep what it had taken, so what is on it is unknown until it is read again.
    #[error("the disk lost records of {path}: {problem}; restart to recover from what is there")]
    Sync {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// All in-flight slots are taken.
    #[error("all {slots} calls that can be in flight are; raise meter.slots or wait")]
    SlotsFull {
        /// The configured number.
        slots: u32,
    },
    /// A call with this id is open already.
    #[error("call {0} is open already; every call needs an id of its own")]
    DuplicateCall(CallId),
    /// A price that no token can have.
    #[error(
        "price {pico_per_token} pico-dollars per token is above the limit of {limit}; check its unit (1 $ per million tokens is 1000000)"
    )]
    Price {
        /// The value given.
        pico_per_token: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// The journal has no such closed call.
    #[error("no closed call {0} in the journal")]
    UnknownCall(CallId),
    /// The call's window is still open, so there is no root to prove it against.
    #[error("call {call} is in window {window}, which is not sealed yet; ask again after the seal")]
    NotSealed {
        /// The call.
        call: CallId,
        /// Its window.
        window: u64,
    },
    /// A file beside the journal (a seal, the slots) could not be read or written, or holds something else.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The receipt could not be signed.
    #[error("signing a receipt: {0}")]
    Sign(#[from] dividend_chain::Error),
    /// The aggregate store failed where a caller asked for it; the fold retries by itself.
    #[error(transparent)]
    Store(#[from] crate::aggregate::StoreError),
}

impl MeterError {
    /// Whether a gateway must refuse new calls until [`crate::Meter::health`] is well again.
    pub fn refuses_calls(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::Sync { .. } | Self::SlotsFull { .. } | Self::Journal(_))
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, problem: error.to_string() }
    }
}
