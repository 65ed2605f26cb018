//! A signed receipt as callers see it.

use dividend_chain::eip712::Receipt;
use dividend_meter::{Closed, Deployment, MeterError};
use serde::Serialize;

/// The operator's signed statement of what a call was and cost: every field of the EIP-712 message, what its digest
/// depends on besides, and for the payer the salt by which he, and nobody else, can show that it is his.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReceiptView {
    pub call: String,
    pub payer_commit: String,
    /// Opens `payer_commit`; only shown to the payer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    pub model: String,
    pub journal: String,
    pub window: u64,
    pub price_in_pico: u64,
    pub price_out_pico: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    #[serde(with = "crate::pico")]
    pub charge_pico: u128,
    pub chain_id: u64,
    pub verifying_contract: String,
    pub signature: String,
}

impl ReceiptView {
    /// Signs the receipt of a call that was just closed.
    pub(crate) fn sign(closed: &Closed, deployment: &Deployment) -> Result<Self, MeterError> {
        let signature = closed.signature()?;
        Ok(Self::new(&closed.receipt, Some(&closed.record.salt.0), deployment, &signature))
    }

    pub(crate) fn new(
        receipt: &Receipt,
        salt: Option<&[u8; 32]>,
        deployment: &Deployment,
        signature: &[u8; 65],
    ) -> Self {
        Self {
            call: hex::encode(receipt.call),
            payer_commit: prefixed(receipt.payerCommit.as_slice()),
            salt: salt.map(|salt| prefixed(salt)),
            model: prefixed(receipt.model.as_slice()),
            journal: prefixed(receipt.journal.as_slice()),
            window: receipt.window,
            price_in_pico: receipt.priceIn,
            price_out_pico: receipt.priceOut,
            tokens_in: receipt.tokensIn,
            tokens_out: receipt.tokensOut,
            charge_pico: receipt.chargePico,
            chain_id: deployment.chain_id,
            verifying_contract: deployment.usage_ledger.to_string(),
            signature: prefixed(signature),
        }
    }

    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            call: "0abc".into(),
            payer_commit: "0x01".into(),
            salt: Some("0x02".into()),
            model: "0x03".into(),
            journal: "0x04".into(),
            window: 5,
            price_in_pico: 6,
            price_out_pico: 7,
            tokens_in: 8,
            tokens_out: 9,
            charge_pico: 111,
            chain_id: 31_337,
            verifying_contract: "0x0A".into(),
            signature: "0x0b".into(),
        }
    }
}

/// `0x` and hex digits.
pub(crate) fn prefixed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}
