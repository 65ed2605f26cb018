//! What is wanted of the chain.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;

/// A transaction that is wanted, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Names the intent for ever, for example `seal/<journal>/<window>/<chunk>`.
    pub id: String,
    /// The contract called; `None` deploys one.
    pub to: Option<Address>,
    /// Call data, or deployment code with its arguments.
    pub input: Bytes,
    /// Native coin sent along, in wei.
    pub value_wei: U256,
    /// Gas limit; estimated, with headroom, if not given.
    pub gas: Option<u64>,
}

impl Intent {
    /// The intent to call a function of a contract.
    pub fn call<C: SolCall>(id: impl Into<String>, to: Address, call: &C) -> Self {
        Self {
            id: id.into(),
            to: Some(to),
            input: call.abi_encode().into(),
            value_wei: U256::ZERO,
            gas: None,
        }
    }
}
