//! The chain as the rest of Dividend sees it: typed bindings, a verified deployment, a provider with failover, one
//! reorg-safe [`Follower`], one nonce-owning [`Sender`], and the EIP-712 messages that payers and the operator sign.
//!
//! Only this crate knows alloy's providers and signers. The crates above it use its primitives, re-exported here.

pub mod bindings;
mod deployment;
pub mod eip712;
mod error;
mod follower;
pub mod key;
mod log;
mod revert;
mod rpc;
mod sender;
#[cfg(feature = "testing")]
pub mod testing;

pub use alloy::primitives::{Address, B256, Bytes, FixedBytes, U256, keccak256};
pub use deployment::{Contracts, DeployParams, Deployment};
pub use error::{Error, Result};
pub use follower::{DEFAULT_MAX_REORG_DEPTH, Follower, FollowerHandle, Position, Projection, Status};
pub use key::Key;
pub use log::Log;
pub use rpc::{At, Head, Rpc};
pub use sender::{GAS_CAP, Intent, Mined, Sender, State};
