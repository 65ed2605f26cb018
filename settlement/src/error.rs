//! The crate's one error type. [`Error::is_retryable`] splits what the settler tries again from what needs a person.

use std::path::PathBuf;

use alloy::primitives::B256;
use dividend_chain::Error as ChainError;

use crate::records::WindowKey;
use crate::transitions::{Event, State};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why settlement did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The chain could not be reached, refused, or reverted.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A step that the transition table does not hold.
    #[error("a {from:?} window or batch cannot take {event:?}; this build and its ledger disagree")]
    Transition {
        /// The state.
        from: State,
        /// What was attempted.
        event: Event,
    },
    /// The stored state is not the expected one: something else moved it.
    #[error("{what} is {found:?} in the ledger, expected {expected:?}; another settler wrote to it")]
    Conflict {
        /// The window or batch.
        what: String,
        /// As expected by the caller.
        expected: State,
        /// As stored.
        found: Option<State>,
    },
    /// A window's seal is missing although a later one exists.
    #[error("{found} is sealed but window {expected} before it is not; restore the seal {expected}.json")]
    SealGap {
        /// The window that was found.
        found: WindowKey,
        /// The window that comes next.
        expected: u64,
    },
    /// A seal differs from what was read before under the same journal and window. A sealed window never changes.
    #[error("{key} was sealed as {stored}, but its seal now reads {found}; restore the seal file")]
    SealChanged {
        /// The window.
        key: WindowKey,
        /// Digest in the ledger.
        stored: B256,
        /// Digest of the file.
        found: B256,
    },
    /// A seal file that cannot be read or is not a seal.
    #[error("seal {path}: {problem}")]
    BadSeal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The chain holds another content for a window than this ledger posted.
    #[error(transparent)]
    PostedDiffers(Box<PostedDiffers>),
    /// A transaction that was reverted so often that trying again is pointless.
    #[error("{what} was reverted {attempts} times, last: {problem}")]
    Refused {
        /// The transaction.
        what: String,
        /// How often it was tried.
        attempts: u32,
        /// The last revert.
        problem: String,
    },
    /// The signing key is not the operator of the contracts.
    #[error("key {found} is not the operator {expected} of the deployment; use the operator's key")]
    NotOperator {
        /// The key's address.
        found: alloy::primitives::Address,
        /// The operator in the contract.
        expected: alloy::primitives::Address,
    },
    /// A total exceeds u128: no honest meter produces it.
    #[error("{what} overflows 128 bits; the seals are corrupt")]
    Overflow {
        /// The total.
        what: String,
    },
    /// The settlement ledger or one of its files failed.
    #[error("{path}: {problem}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What failed.
        problem: String,
    },
    /// Another process settles from this home.
    #[error("{path} is held by another process that settles from this home; ask it, or stop it first")]
    Locked {
        /// The ledger.
        path: PathBuf,
    },
    /// A ledger made for another deployment or operator.
    #[error("{path} belongs to {found}, not to {expected}; move it away or use another --home")]
    ForeignLedger {
        /// The ledger.
        path: PathBuf,
        /// What this process settles.
        expected: String,
        /// What the ledger was made for.
        found: String,
    },
    /// The running settler answered a request with an error.
    #[error("the running settler answered: {0}")]
    Remote(String),
    /// The control socket failed.
    #[error("control socket {path}: {problem}")]
    Control {
        /// The socket.
        path: PathBuf,
        /// What failed.
        problem: String,
    },
    /// A model that the chain does not know.
    #[error("model {0} is not registered on this chain; `dividend model show` lists those that are")]
    UnknownModel(String),
    /// Stopped by a test's checkpoint, as a killed process would be.
    #[error("stopped at {0}")]
    Stopped(String),
}

/// A posted row that is not the seal's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{key} is on chain with row {on_chain} for model {model}, but the seal makes it {sealed}; compare `dividend audit` \
     with the SealPosted events of that window"
)]
pub struct PostedDiffers {
    /// The window.
    pub key: WindowKey,
    /// The model.
    pub model: B256,
    /// Hash of the row on chain; zero if there is none.
    pub on_chain: B256,
    /// Hash of the row by the seal.
    pub sealed: B256,
}

impl Error {
    /// Whether the next turn may succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Chain(error) => error.is_retryable(),
            Self::Control { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn store(path: &std::path::Path, problem: impl ToString) -> Self {
        Self::Store { path: path.into(), problem: problem.to_string() }
    }
}
