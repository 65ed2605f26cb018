//! Why a contract reverted, in words.

use alloy::primitives::hex;
use alloy::sol_types::{Panic, Revert, SolError};

use crate::bindings;

/// The reason in revert data: a custom error of one of the contracts with its values, `require`'s text, a Solidity panic,
/// or the raw bytes.
pub(crate) fn reason(data: &[u8]) -> String {
    if data.is_empty() {
        return "without a reason".into();
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return revert.reason;
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return panic.to_string();
    }
    bindings::custom_error(data).unwrap_or_else(|| format!("with data {}", hex::encode_prefixed(data)))
}
