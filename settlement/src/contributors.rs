//! Paying contributors what the pool credits them. Anybody may send it and pay the gas: the pool pays the payee.

use alloy::primitives::{Address, B256, U256, keccak256};
use dividend_chain::bindings::IRoyaltyPool;
use dividend_chain::{At, Deployment, Sender};
use dividend_registry::{ModelId, ModelView, Snapshot};
use serde::{Deserialize, Serialize};

use crate::earnings::slot_part;
use crate::figures::units;
use crate::onchain::transaction;
use crate::plan::{CLAIM_GAS, Call, ClaimKey, Intent};
use crate::{Result, decimal};

/// Whose credit is to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Every slot whose payee is the address, in every model.
    Payee(Address),
    /// Every slot of one model's lineage.
    Model(ModelId),
    /// One node's slots in one model's lineage.
    Node(ModelId, ModelId),
}

/// A slot with something to claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimable {
    /// The model that was called.
    pub model: ModelId,
    /// The node in its lineage.
    pub node: ModelId,
    /// The contributor's slot of that node.
    pub slot: u8,
    /// Who is paid.
    #[serde(serialize_with = "decimal::checksummed")]
    pub payee: Address,
    /// `credited − claimed`, base units.
    #[serde(with = "decimal")]
    pub amount_units: u128,
}

impl Claimable {
    /// The pool's name for the slot.
    pub fn key(&self) -> ClaimKey {
        ClaimKey { model: self.model.as_b256(), node: self.node.as_b256(), slot: self.slot }
    }
}

/// The slots of `whom` that have something to claim, in order of model, node and slot.
pub fn claimable(whom: &Whom, snapshot: &Snapshot) -> Vec<Claimable> {
    let mut found: Vec<Claimable> = snapshot
        .models()
        .filter(|model| match whom {
            Whom::Payee(_) => true,
            Whom::Model(id) | Whom::Node(id, _) => model.id == *id,
        })
        .flat_map(|model| claimable_of(model, snapshot))
        .filter(|slot| match whom {
            Whom::Payee(address) => slot.payee == *address,
            Whom::Model(_) => true,
            Whom::Node(_, node) => slot.node == *node,
        })
        .collect();
    found.sort_by_key(|slot| (slot.model, slot.node, slot.slot));
    found
}

fn claimable_of(model: &ModelView, snapshot: &Snapshot) -> Vec<Claimable> {
    let revenue = snapshot.revenue_units(model.id);
    let mut found = Vec::new();
    for row in &model.rows {
        let Some(node) = snapshot.model(row.node) else { continue };
        for (number, slot) in (0u8..).zip(&node.slots) {
            let credited = slot_part(revenue, row.share_ppm, slot.share_ppm);
            let claimed = snapshot.claimed_units(model.id, row.node, number);
            let amount_units = credited.saturating_sub(claimed);
            if amount_units > 0 {
                let (model, node) = (model.id, row.node);
                found.push(Claimable { model, node, slot: number, payee: slot.payee, amount_units });
            }
        }
    }
    found
}

/// The transactions that pay these slots, chunked under the gas cap. The id holds the slots and what they were claimable
/// for, so that asking again before the first is mined sends nothing twice.
pub fn claim_many(slots: &[Claimable], block: u64) -> Vec<Intent> {
    let intent = |chunk: &[Claimable]| {
        let mut bytes = Vec::with_capacity(chunk.len() * 96);
        for slot in chunk {
            bytes.extend_from_slice(&slot.model.0);
            bytes.extend_from_slice(&slot.node.0);
            bytes.push(slot.slot);
            bytes.extend_from_slice(&slot.amount_units.to_be_bytes());
        }
        let keys = chunk.iter().map(Claimable::key).collect();
        Intent { id: format!("claim/{block}/{:x}", keccak256(bytes)), call: Call::ClaimMany { keys } }
    };
    slots.chunks(CLAIM_GAS.max_rows()).map(intent).collect()
}

/// A slot that was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The model that was called.
    pub model: ModelId,
    /// The node in its lineage.
    pub node: ModelId,
    /// The contributor's slot of that node.
    pub slot: u8,
    /// Who was paid.
    #[serde(serialize_with = "decimal::checksummed")]
    pub payee: Address,
    /// What this payment moved, base units; 0 if somebody else claimed first, or if the token refused the payee.
    #[serde(with = "decimal")]
    pub paid_units: u128,
}

/// What claiming did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Every slot that was asked for.
    pub slots: Vec<Paid>,
    /// Gas used, over all transactions.
    pub gas_used: u64,
    /// The transactions.
    pub transactions: Vec<B256>,
}

impl Payout {
    /// Everything that was paid, base units.
    pub fn total_units(&self) -> u128 {
        self.slots.iter().map(|slot| slot.paid_units).sum()
    }
}

/// Has the pool pay `slots`, found in a snapshot of block `block`, and waits until the transactions are mined. The
/// sender's account pays the gas and needs no other right.
///
/// # Errors
/// [`crate::Error::Chain`]. What was mined before stays paid; asking again pays the rest.
pub async fn pay(
    sender: &Sender,
    deployment: &Deployment,
    slots: &[Claimable],
    block: u64,
) -> Result<Payout> {
    let mut payout = Payout::default();
    let chunks = slots.chunks(CLAIM_GAS.max_rows());
    for (chunk, intent) in chunks.zip(claim_many(slots, block)) {
        let id = intent.id.clone();
        let mined = sender.send(transaction(deployment, &intent)).await?;
        tracing::debug!(id, gas = mined.gas_used, "claimed");
        payout.gas_used += mined.gas_used;
        payout.transactions.push(mined.transaction);
        for slot in chunk {
            let before = claimed(sender, deployment, slot, mined.block_number.saturating_sub(1)).await?;
            let after = claimed(sender, deployment, slot, mined.block_number).await?;
            let Claimable { model, node, slot, payee, .. } = *slot;
            payout.slots.push(Paid { model, node, slot, payee, paid_units: after.saturating_sub(before) });
        }
    }
    Ok(payout)
}

async fn claimed(sender: &Sender, deployment: &Deployment, slot: &Claimable, block: u64) -> Result<u128> {
    let ClaimKey { model, node, slot } = slot.key();
    let call = IRoyaltyPool::claimedCall { model, node, slot: U256::from(slot) };
    units(sender.rpc().call_at(deployment.contracts.royalty_pool, &call, At::Number(block)).await?)
}
