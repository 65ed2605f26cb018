//! EIP-712 messages (<https://eips.ethereum.org/EIPS/eip-712>) signed off-chain and checked by the contracts.

use alloy::primitives::{Address, B256};
use alloy::sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

/// Domain name that every digest carries.
pub const DOMAIN_NAME: &str = "Dividend";
/// Domain version that every digest carries.
pub const DOMAIN_VERSION: &str = "1";

alloy::sol! {
    /// The payer's promise: `lane` of `channel` may be charged up to `maxCumulative` pico-dollars, in total since the
    /// channel was opened, until `expiry` (unix seconds). A lane is a model id.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Voucher {
        bytes32 channel;
        bytes32 lane;
        uint128 maxCumulative;
        uint64 expiry;
    }

    /// The operator's statement that `cumulative` pico-dollars of the lane were consumed up to the seal `sealDigest`.
    /// Nobody redeems a voucher above it.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Claim {
        bytes32 channel;
        bytes32 lane;
        uint128 cumulative;
        bytes32 sealDigest;
    }

    /// The operator's receipt for one call. Prices are pico-dollars per token; the payer is committed to, not named:
    /// `payerCommit = keccak256(payerKey ‖ salt)`.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Receipt {
        bytes16 call;
        bytes32 payerCommit;
        bytes32 model;
        bytes32 journal;
        uint64 window;
        uint64 priceIn;
        uint64 priceOut;
        uint64 tokensIn;
        uint64 tokensOut;
        uint128 chargePico;
    }
}

/// The chain and contract that a message is for: PaymentChannels for [`Voucher`] and [`Claim`], UsageLedger for
/// [`Receipt`]. A message signed for one is worthless on any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The contract that checks the signature.
    pub verifying_contract: Address,
}

impl Domain {
    /// The digest to sign: `keccak256(0x1901 ‖ domain separator ‖ struct hash)`.
    pub fn digest<S: SolStruct>(&self, message: &S) -> B256 {
        message.eip712_signing_hash(&self.as_alloy())
    }

    /// The domain separator, as the contract's `DOMAIN_SEPARATOR`.
    pub fn separator(&self) -> B256 {
        self.as_alloy().separator()
    }

    fn as_alloy(&self) -> Eip712Domain {
        alloy::sol_types::eip712_domain! {
            name: DOMAIN_NAME,
            version: DOMAIN_VERSION,
            chain_id: self.chain_id,
            verifying_contract: self.verifying_contract,
        }
    }
}

/// `keccak256(typeHash ‖ encodeData)` of a message: independent of chain and contract, so a Merkle leaf can hold it.
pub fn struct_hash<S: SolStruct>(message: &S) -> B256 {
    message.eip712_hash_struct()
}

/// The type hash of a message, for golden vectors.
pub fn type_hash<S: SolStruct>(message: &S) -> B256 {
    message.eip712_type_hash()
}

#[cfg(test)]
mod tests;
