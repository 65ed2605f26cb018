//! One event of a contract, with its place on the chain.

use alloy::primitives::{Address, B256, Bytes, Log as RawLog};
use alloy::sol_types::SolEvent;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A log of a mined transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Height of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Index within the block.
    pub index: u64,
    /// The transaction that emitted it.
    pub transaction: B256,
    /// The emitting contract.
    pub address: Address,
    /// Event signature and indexed fields.
    pub topics: Vec<B256>,
    /// The other fields.
    pub data: Bytes,
}

impl Log {
    /// Whether this is event `E`.
    pub fn is<E: SolEvent>(&self) -> bool {
        self.topics.first() == Some(&E::SIGNATURE_HASH)
    }

    /// Decodes the log as event `E`.
    ///
    /// # Errors
    /// [`Error::BadLog`] if it is another event or malformed.
    pub fn decode<E: SolEvent>(&self) -> Result<E> {
        E::decode_raw_log_validate(self.topics.iter().copied(), &self.data)
            .map_err(|e| self.refuse(format!("is not a valid {}: {e}", E::SIGNATURE)))
    }

    /// The error that says what is wrong with this log.
    pub fn refuse(&self, problem: String) -> Error {
        Error::BadLog { block: self.block_number, index: self.index, problem }
    }

    /// `None` for a log that is pending or was removed by a reorganisation.
    pub(crate) fn from_rpc(log: alloy::rpc::types::Log) -> Option<Self> {
        if log.removed {
            return None;
        }
        let RawLog { address, data } = log.inner;
        Some(Self {
            block_number: log.block_number?,
            block_hash: log.block_hash?,
            index: log.log_index?,
            transaction: log.transaction_hash?,
            address,
            topics: data.topics().to_vec(),
            data: data.data,
        })
    }
}
