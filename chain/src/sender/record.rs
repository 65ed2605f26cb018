//! What is stored of an intent, and the states it passes through.

use alloy::primitives::{Address, B256, Bytes, Keccak256, U256};
use serde::{Deserialize, Serialize};

use super::Intent;
use super::signing::OfferedFees;
use crate::{Error, Result};

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mined {
    /// Transaction hash.
    pub transaction: B256,
    /// Height of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Gas that it used.
    pub gas_used: u64,
    /// What that cost, in wei.
    pub fee_wei: u128,
    /// The contract that it deployed.
    pub created: Option<Address>,
    /// The contract's reason, if it reverted.
    pub reverted: Option<String>,
}

impl Mined {
    pub(super) fn into_result(self) -> Result<Self> {
        match self.reverted {
            Some(reason) => Err(Error::Reverted(reason)),
            None => Ok(self),
        }
    }
}

/// Where an intent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Stored and, but for a kill, sent; in no block that is known.
    Pending,
    /// In a block that may still be reorganised away.
    Mined(Mined),
    /// In a final block.
    Final(Mined),
}

impl State {
    /// The transition table.
    pub(super) fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Pending, Self::Mined(_) | Self::Final(_)) => true,
            // A reorganisation takes the transaction out of its block, or moves it to another.
            (Self::Mined(_), Self::Pending | Self::Mined(_) | Self::Final(_)) => true,
            (Self::Pending, Self::Pending) | (Self::Final(_), _) => false,
        }
    }
}

/// One signed transaction for an intent; a raised fee makes another one with the same nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub hash: B256,
    pub raw: Bytes,
    pub fees: OfferedFees,
}

/// An intent as stored. Once final, what only sending needs is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: String,
    pub digest: B256,
    pub nonce: u64,
    pub to: Option<Address>,
    pub input: Bytes,
    pub value_wei: U256,
    pub gas: u64,
    pub attempts: Vec<Attempt>,
    pub state: State,
}

/// What makes two intents the same transaction.
pub(super) fn digest(intent: &Intent) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(intent.to.map_or([0; 21], |to| {
        let mut tagged = [1; 21];
        tagged[1..].copy_from_slice(to.as_slice());
        tagged
    }));
    hasher.update(intent.value_wei.to_be_bytes::<32>());
    hasher.update(&intent.input);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_transition_table() {
        let mined = Mined {
            transaction: B256::ZERO,
            block_number: 1,
            block_hash: B256::ZERO,
            gas_used: 21_000,
            fee_wei: 1,
            created: None,
            reverted: None,
        };
        let states = [State::Pending, State::Mined(mined.clone()), State::Final(mined)];
        let allowed = states.clone().map(|from| states.clone().map(|to| from.may_become(&to)));
        assert_eq!(allowed, [[false, true, true], [true, true, true], [false, false, false]]);
    }

    #[test]
    fn a_digest_separates_target_value_and_input() {
        let base = Intent {
            id: "a".into(),
            to: Some(Address::ZERO),
            input: Bytes::from_static(b"x"),
            value_wei: U256::ZERO,
            gas: None,
        };
        let same = Intent { id: "b".into(), gas: Some(1), ..base.clone() };
        assert_eq!(digest(&base), digest(&same));
        for other in [
            Intent { to: None, ..base.clone() },
            Intent { input: Bytes::new(), ..base.clone() },
            Intent { value_wei: U256::ONE, ..base.clone() },
        ] {
            assert_ne!(digest(&base), digest(&other));
        }
    }
}
