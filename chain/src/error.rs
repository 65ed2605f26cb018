//! The crate's one error type. [`Error::is_retryable`] splits what may pass by itself from what never will.

use std::path::PathBuf;

use alloy::primitives::{Address, B256};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a chain operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key file is missing, readable by others, or does not hold a private key. The key itself is never shown.
    #[error("key file {path}: {problem}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Bytes that are not a valid low-s secp256k1 signature.
    #[error("signature: {0}")]
    Signature(String),
    /// An endpoint could not be reached or did not answer in time, nor did any other that is configured.
    #[error(
        "chain RPC {endpoint}: {problem}; check that the node runs and that the rpc setting points to it"
    )]
    Unreachable {
        /// The endpoint tried last.
        endpoint: String,
        /// What the transport said.
        problem: String,
    },
    /// The node answered with an error that repeating the request will not cure.
    #[error("chain RPC {endpoint} refused {method}: {problem}")]
    Refused {
        /// The endpoint that answered.
        endpoint: String,
        /// JSON-RPC method.
        method: String,
        /// The node's message.
        problem: String,
    },
    /// The node does not have the state of the block asked for: it was restarted, or prunes. Later blocks will do.
    #[error("chain RPC {endpoint} has no state for {method}: {problem}; a later block is asked for next")]
    StateUnavailable {
        /// The endpoint that answered.
        endpoint: String,
        /// JSON-RPC method.
        method: String,
        /// The node's message.
        problem: String,
    },
    /// An RPC setting that is not an http(s) URL.
    #[error("rpc endpoint {url:?}: {problem}; expected http://HOST:PORT or https://HOST")]
    BadEndpoint {
        /// The value given.
        url: String,
        /// Why it is refused.
        problem: String,
    },
    /// A transaction or call was reverted by the contract.
    #[error("reverted: {0}")]
    Reverted(String),
    /// A transaction would need more gas than the network allows one transaction to use (EIP-7825).
    #[error("transaction needs {needed} gas, above the cap of {cap}; split it into smaller batches")]
    GasCap {
        /// Estimated gas.
        needed: u64,
        /// Most gas that one transaction may use.
        cap: u64,
    },
    /// The sender's account cannot pay for gas.
    #[error("account {account} cannot pay for gas: {problem}; fund it with the chain's native coin")]
    NoFunds {
        /// The paying account.
        account: Address,
        /// The node's message.
        problem: String,
    },
    /// A deployment file is missing or malformed.
    #[error("deployment file {path}: {problem}")]
    DeploymentFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The node serves another chain than the one the deployment was made on.
    #[error(
        "the RPC serves {what} {found}, but the deployment was made on {expected}; point rpc at the right chain, \
         or deploy again with a fresh home"
    )]
    WrongChain {
        /// "chain id" or "genesis".
        what: &'static str,
        /// As in deployment.json.
        expected: String,
        /// As the node says.
        found: String,
    },
    /// The address of a contract holds no code, other code, or a contract wired to other addresses.
    #[error(
        "{name} at {address}: {problem}; the chain was rolled back or deployment.json is of another deployment: \
         restore the chain's state, or deploy again with a fresh home"
    )]
    WrongContract {
        /// Contract name.
        name: String,
        /// The address in deployment.json.
        address: Address,
        /// What was found there.
        problem: String,
    },
    /// An address that is no token to be paid in.
    #[error("token {token} {problem}; give the address of an ERC-20 with 6 decimals")]
    BadToken {
        /// The address.
        token: Address,
        /// What is wrong with it.
        problem: String,
    },
    /// The chain no longer holds a block that was final: it was rolled back or replaced.
    #[error(
        "block {number} was final as {expected} but the chain now has {found}: it was rolled back below finality. \
         Following has stopped; restore the chain's state, or, if the new history is the right one, delete the \
         follower's store so that it is rebuilt"
    )]
    RolledBack {
        /// Number of the final block.
        number: u64,
        /// The hash it had.
        expected: B256,
        /// What the chain has at that height now.
        found: String,
    },
    /// A reorganisation deeper than the configured maximum.
    #[error(
        "the chain reorganised more than {max} blocks below block {head}; following has stopped. Check the node, \
         then delete the follower's store so that it is rebuilt"
    )]
    ReorgTooDeep {
        /// The head before the reorganisation.
        head: u64,
        /// The configured maximum depth.
        max: u64,
    },
    /// A projection refused a log: the contract and this build disagree about an event.
    #[error("log {index} of block {block}: {problem}; this build does not match the deployed contracts")]
    BadLog {
        /// Block number.
        block: u64,
        /// Index of the log in its block.
        index: u64,
        /// What could not be understood.
        problem: String,
    },
    /// A store on disk failed or holds what this build cannot read.
    #[error("store {path}: {problem}")]
    Store {
        /// The database file.
        path: PathBuf,
        /// What failed.
        problem: String,
    },
    /// Another process holds the store.
    #[error("store {path} is in use by another process; stop that process first, or use another --home")]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// A store that belongs to another chain, deployment or account.
    #[error("store {path} belongs to {found}, not to {expected}; move it away or use another --home")]
    ForeignStore {
        /// The database file.
        path: PathBuf,
        /// What this process works for.
        expected: String,
        /// What the file was made for.
        found: String,
    },
    /// An intent id was reused with a different transaction.
    #[error("intent {id} was already used for another transaction; an id names one transaction for ever")]
    IntentReused {
        /// The id.
        id: String,
    },
    /// The account's nonce moved although only this sender should move it.
    #[error(
        "account {account} has nonce {found} on the chain but this sender has used only up to {expected}: another \
         program sends from the same key. Stop it, or give this sender a key of its own"
    )]
    ForeignNonce {
        /// The account.
        account: Address,
        /// Next nonce by this sender's book.
        expected: u64,
        /// Next nonce by the chain.
        found: u64,
    },
    /// The chain has forgotten final transactions of the account.
    #[error(
        "account {account} has nonce {found} on the chain but this sender knows of {expected} final transactions: the \
         chain was rolled back. Restore the chain's state, or start over with a fresh home"
    )]
    NonceBehind {
        /// The account.
        account: Address,
        /// Least nonce by this sender's book.
        expected: u64,
        /// Next nonce by the chain.
        found: u64,
    },
    /// An intent that was never submitted.
    #[error("intent {id} was never submitted; submit it first")]
    UnknownIntent {
        /// The id.
        id: String,
    },
    /// Waiting for an event on the chain took longer than allowed.
    #[error("{what} did not happen within {waited_ms} ms")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::TimedOut { .. }
                | Self::NoFunds { .. }
                | Self::StateUnavailable { .. }
        )
    }
}
