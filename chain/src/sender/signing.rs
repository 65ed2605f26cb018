//! EIP-1559 transactions: fees, signing, and what nodes say about them.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::rpc::types::TransactionRequest;
use serde::{Deserialize, Serialize};

use super::record::{Attempt, Record};
use crate::rpc::Fees;
use crate::{Error, Key, Result};

/// Fees per gas that a transaction offers, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfferedFees {
    pub max_wei: u128,
    pub tip_wei: u128,
}

/// The first offer: covers the base fee of six full blocks in a row (each adds an eighth), never above `cap_wei`.
pub(super) fn opening_fees(now: Fees, cap_wei: u128) -> OfferedFees {
    let max_wei = now.base_wei.saturating_mul(2).saturating_add(now.tip_wei).max(1).min(cap_wei);
    OfferedFees { max_wei, tip_wei: now.tip_wei.min(max_wei) }
}

/// A quarter more than before, or what the chain asks now if that is more: nodes replace a transaction from a tenth
/// more on. `None` if the cap leaves no room for that.
pub(super) fn raised_fees(last: OfferedFees, now: Fees, cap_wei: u128) -> Option<OfferedFees> {
    let more = |wei: u128| wei.saturating_add(wei / 4).saturating_add(1);
    let opening = opening_fees(now, cap_wei);
    let max_wei = more(last.max_wei).max(opening.max_wei).min(cap_wei);
    let tip_wei = more(last.tip_wei).max(opening.tip_wei).min(max_wei);
    let tenth_more = |wei: u128| wei.saturating_add(wei.div_ceil(10));
    let enough = max_wei >= tenth_more(last.max_wei) && tip_wei >= tenth_more(last.tip_wei);
    enough.then_some(OfferedFees { max_wei, tip_wei })
}

/// Signs the record's transaction with these fees.
pub(super) fn sign(key: &Key, chain_id: u64, record: &Record, fees: OfferedFees) -> Result<Attempt> {
    let mut transaction = TxEip1559 {
        chain_id,
        nonce: record.nonce,
        gas_limit: record.gas,
        max_fee_per_gas: fees.max_wei,
        max_priority_fee_per_gas: fees.tip_wei,
        to: record.to.map_or(TxKind::Create, TxKind::Call),
        value: record.value_wei,
        access_list: Default::default(),
        input: record.input.clone(),
    };
    let signature = key
        .signer()
        .sign_transaction_sync(&mut transaction)
        .map_err(|e| Error::Signature(format!("cannot sign the transaction: {e}")))?;
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    Ok(Attempt { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into(), fees })
}

/// The unsigned request, for estimating and replaying.
pub(super) fn request(
    from: Address,
    to: Option<Address>,
    input: &Bytes,
    value_wei: U256,
) -> TransactionRequest {
    let request = TransactionRequest::default().from(from).input(input.clone().into()).value(value_wei);
    TransactionRequest { to: Some(to.map_or(TxKind::Create, TxKind::Call)), ..request }
}

/// Whether a node refuses a transaction because it, or another with its nonce, is there already. Its receipt decides.
pub(super) fn is_known(problem: &str) -> bool {
    let problem = problem.to_lowercase();
    ["already known", "already imported", "known transaction", "nonce too low", "underpriced"]
        .iter()
        .any(|phrase| problem.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Fees = Fees { base_wei: 100, tip_wei: 10 };

    #[test]
    fn an_offer_never_passes_the_cap() {
        assert_eq!(opening_fees(NOW, 1_000), OfferedFees { max_wei: 210, tip_wei: 10 });
        assert_eq!(opening_fees(NOW, 50), OfferedFees { max_wei: 50, tip_wei: 10 });
        assert_eq!(opening_fees(NOW, 5), OfferedFees { max_wei: 5, tip_wei: 5 });
    }

    #[test]
    fn a_raise_is_enough_to_replace_or_is_not_made() {
        let first = opening_fees(NOW, 1_000);
        assert_eq!(raised_fees(first, NOW, 1_000), Some(OfferedFees { max_wei: 263, tip_wei: 13 }));
        let dear = Fees { base_wei: 300, tip_wei: 40 };
        assert_eq!(raised_fees(first, dear, 1_000), Some(OfferedFees { max_wei: 640, tip_wei: 40 }));
        assert_eq!(raised_fees(first, NOW, 230), None);
        assert_eq!(raised_fees(first, NOW, 231), Some(OfferedFees { max_wei: 231, tip_wei: 13 }));
    }
}
