//! What a meter is opened with.

use std::time::Duration;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

use dividend_chain::eip712::Domain;

/// What a closed call has survived by the time the caller is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Any death of the process: the record is with the kernel. The disk follows within a group commit.
    #[default]
    Process,
    /// A loss of power: [`crate::Closed::durable`] waits for the disk.
    Power,
}

/// Sizes, times and promises of a [`crate::Meter`].
#[derive(Clone, Debug)]
pub struct MeterOptions {
    /// A segment file is closed, and the next begun, when it has grown to this many bytes.
    pub segment_bytes: u64,
    /// Most calls in flight at once.
    pub slots: u32,
    /// See [`Durability`].
    pub durability: Durability,
    /// A window is sealed this long after its first call closed.
    pub window_ms: u64,
    /// How often totals are published to the aggregate store.
    pub fold_interval: Duration,
    /// Longest that a record waits for the group commit, when nobody waits for it.
    pub sync_interval: Duration,
    /// Sealed windows whose totals stay in the aggregate store; older ones are dropped from it (and are in their seals).
    pub keep_windows: usize,
}

impl Default for MeterOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            slots: 4096,
            durability: Durability::Process,
            window_ms: 3_600_000,
            fold_interval: Duration::from_millis(100),
            sync_interval: Duration::from_millis(20),
            keep_windows: 24,
        }
    }
}

/// The contracts that a journal's windows are settled with. A journal belongs to one deployment for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// UsageLedger: checks receipts, takes `postSeal`.
    pub usage_ledger: Address,
    /// PaymentChannels: checks vouchers and claims.
    pub payment_channels: Address,
}

impl Deployment {
    /// The EIP-712 domain of receipts.
    pub fn receipt_domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, verifying_contract: self.usage_ledger }
    }

    /// The EIP-712 domain of vouchers and claims.
    pub fn voucher_domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, verifying_contract: self.payment_channels }
    }
}

impl std::fmt::Display for Deployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { chain_id, usage_ledger, payment_channels } = self;
        write!(f, "chain {chain_id}, UsageLedger {usage_ledger}, PaymentChannels {payment_channels}")
    }
}
