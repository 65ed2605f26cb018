//! Receipts: what the operator signs for a call, and the proof that the call is in its window's root.

use alloy::primitives::{B256, FixedBytes, keccak256};
use dividend_chain::eip712::{Receipt, struct_hash};

use crate::sumtree::{self, Node, Sibling, SumOverflow};
use crate::{CallRecord, Payer};

/// The receipt of a closed call.
pub fn receipt(record: &CallRecord, journal: B256) -> Receipt {
    Receipt {
        call: FixedBytes(record.call.0),
        payerCommit: payer_commit(&record.payer, record.salt),
        model: record.model.as_b256(),
        journal,
        window: record.window,
        priceIn: record.price.in_pico_per_token,
        priceOut: record.price.out_pico_per_token,
        tokensIn: record.usage.prompt_tokens.into(),
        tokensOut: record.usage.completion_tokens.into(),
        chargePico: record.charge.0,
    }
}

/// `keccak256(payerKey ‖ salt)`: names the payer to whoever knows the salt, and to nobody else.
pub fn payer_commit(payer: &Payer, salt: B256) -> B256 {
    keccak256([payer.payer_key().0, salt.0].concat())
}

/// The leaf of a closed call in its window's tree.
pub fn leaf(record: &CallRecord, journal: B256) -> Node {
    sumtree::leaf(struct_hash(&receipt(record, journal)), record.charge.0)
}

/// Proof that a call is counted, exactly, in a sealed window's root.
#[derive(Clone, Debug, PartialEq)]
pub struct InclusionProof {
    /// The call. Its `salt` opens the receipt's `payerCommit`: show it to the payer only.
    pub record: CallRecord,
    /// Its receipt, whose struct hash is in the leaf.
    pub receipt: Receipt,
    /// Place of the leaf among the window's calls of this model and kind of payer, in journal order.
    pub index: u64,
    /// Number of these calls.
    pub leaves: u64,
    /// From the leaf up; levels at which the node rises unchanged have none.
    pub siblings: Vec<Sibling>,
    /// The model's `prepaid` or `channel` root in the seal.
    pub root: Node,
}

impl InclusionProof {
    /// Whether leaf and siblings lead to the root.
    ///
    /// # Errors
    /// [`SumOverflow`].
    pub fn holds(&self) -> Result<bool, SumOverflow> {
        let leaf = sumtree::leaf(struct_hash(&self.receipt), self.receipt.chargePico);
        Ok(sumtree::climb(leaf, &self.siblings)? == self.root)
    }
}
