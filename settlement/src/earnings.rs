//! What an address has earned: accrued by metering, credited on chain, claimed.
//!
//! Every figure is cumulative since genesis and `accrued ≥ credited ≥ claimed`. A slot's part is floored exactly as
//! RoyaltyPool floors it, from the model's cumulative royalty, so that `accrued` is what `credited` becomes once all
//! windows are settled.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use dividend_meter::Payer;
use dividend_meter::ledger::Ledger;
use dividend_registry::{ModelId, ModelView, Snapshot};
use serde::{Deserialize, Serialize};

use crate::lanes::{Lane, PPM, split};
use crate::{Error, Result, decimal};

/// Cumulative charge of every lane, in pico-dollars, over all journals and windows, sealed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneTotals(BTreeMap<Lane, u128>);

impl LaneTotals {
    /// Everything that a journal holds, read live ([`dividend_meter::LiveLedger`]) or not.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn of_journal(ledger: &Ledger) -> Result<Self> {
        let mut lanes = Self::default();
        for (payer, model, totals) in ledger.lanes() {
            lanes.add(&payer, model, totals.charge.0)?;
        }
        Ok(lanes)
    }

    /// Adds what `payer` was charged for `model`. All keys of a model are one lane, the operator's.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn add(&mut self, payer: &Payer, model: ModelId, charge_pico: u128) -> Result<()> {
        let lane = Lane { channel: payer.channel(), model: model.as_b256() };
        let total = self.0.entry(lane).or_default();
        let overflow = || Error::Overflow { what: format!("the total of model {model}") };
        *total = total.checked_add(charge_pico).ok_or_else(overflow)?;
        Ok(())
    }

    /// Every lane with its cumulative pico-dollars.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, u128)> {
        self.0.iter().map(|(lane, pico)| (*lane, *pico))
    }

    /// The royalty that each model has accrued, in base units: the sum over its lanes of each lane's floor. Lanes of
    /// models that the snapshot does not know yet wait for it.
    pub fn royalty_units(&self, snapshot: &Snapshot) -> BTreeMap<ModelId, u128> {
        let mut royalty = BTreeMap::new();
        for (lane, pico) in self.iter() {
            let id = ModelId::from(lane.model);
            if let Some(model) = snapshot.model(id) {
                *royalty.entry(id).or_insert(0u128) += split(pico, model.royalty_ppm).royalty_units;
            }
        }
        royalty
    }
}

/// Cumulative amounts in base units (µ$).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Earned by metered calls, settled or not.
    #[serde(with = "decimal")]
    pub accrued_units: u128,
    /// Credited by the pool.
    #[serde(with = "decimal")]
    pub credited_units: u128,
    /// `credited − claimed`.
    #[serde(with = "decimal")]
    pub claimable_units: u128,
    /// Paid out.
    #[serde(with = "decimal")]
    pub claimed_units: u128,
}

impl Amounts {
    fn add(&mut self, other: &Self) {
        self.accrued_units += other.accrued_units;
        self.credited_units += other.credited_units;
        self.claimable_units += other.claimable_units;
        self.claimed_units += other.claimed_units;
    }
}

/// One slot's part of one model's royalty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEarnings {
    /// The node whose contributor the slot is: the model or one of its ancestors.
    pub node: ModelId,
    /// Number of the slot within the node.
    pub slot: u8,
    /// The slot's part of the model's royalty, in 10⁻¹²: row share × slot share.
    pub share_e12: u64,
    /// The amounts.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// What an address earns from one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEarnings {
    /// The model that was called.
    pub model: ModelId,
    /// Sums over the slots.
    #[serde(flatten)]
    pub amounts: Amounts,
    /// The slots that the address holds in the model's lineage.
    pub slots: Vec<SlotEarnings>,
}

/// Everything that an address earns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// The payee.
    #[serde(serialize_with = "decimal::checksummed")]
    pub address: Address,
    /// Number of the block that the credited and claimed figures are of.
    pub block: u64,
    /// Hash of that block.
    pub block_hash: B256,
    /// Sums over the models.
    #[serde(flatten)]
    pub amounts: Amounts,
    /// By model, in order of id.
    pub models: Vec<ModelEarnings>,
}

/// `floor(total · row_ppm · slot_ppm / 10¹²)`, as RoyaltyPool computes it.
pub fn slot_part(total_units: u128, row_ppm: u32, slot_ppm: u32) -> u128 {
    let part = U256::from(total_units) * U256::from(row_ppm) * U256::from(slot_ppm) / U256::from(PPM * PPM);
    // Rates of at most 10⁶ make a part of at most the total; larger ones the registry does not admit.
    part.try_into().unwrap_or(total_units)
}

/// What `address` earns, from the chain's snapshot and the metered totals.
///
/// Where the chain already credited more than the totals know (another gateway's journals are settled to the same
/// contracts), the credited figure counts as accrued.
pub fn earnings(address: Address, snapshot: &Snapshot, totals: &LaneTotals) -> Earnings {
    let accrued = totals.royalty_units(snapshot);
    let mut models: Vec<&ModelView> = snapshot.models().map(AsRef::as_ref).collect();
    models.sort_by_key(|model| model.id);
    let block = snapshot.block();
    let mut earnings = Earnings {
        address,
        block: block.number,
        block_hash: block.hash,
        amounts: Amounts::default(),
        models: Vec::new(),
    };
    for model in models {
        let metered = accrued.get(&model.id).copied().unwrap_or(0);
        let slots = slots_of(address, model, snapshot, metered);
        if !slots.is_empty() {
            let mut amounts = Amounts::default();
            slots.iter().for_each(|slot| amounts.add(&slot.amounts));
            earnings.amounts.add(&amounts);
            earnings.models.push(ModelEarnings { model: model.id, amounts, slots });
        }
    }
    earnings
}

/// The slots through which `address` shares in `model`. A pot has no contributor slots and is not among them.
fn slots_of(
    address: Address,
    model: &ModelView,
    snapshot: &Snapshot,
    metered_units: u128,
) -> Vec<SlotEarnings> {
    let revenue = snapshot.revenue_units(model.id);
    let mut found = Vec::new();
    for row in &model.rows {
        let Some(node) = snapshot.model(row.node) else { continue };
        for (number, slot) in (0u8..).zip(&node.slots) {
            if slot.payee != address {
                continue;
            }
            let credited_units = slot_part(revenue, row.share_ppm, slot.share_ppm);
            let claimed_units = snapshot.claimed_units(model.id, row.node, number);
            let amounts = Amounts {
                accrued_units: slot_part(metered_units.max(revenue), row.share_ppm, slot.share_ppm),
                credited_units,
                claimable_units: credited_units.saturating_sub(claimed_units),
                claimed_units,
            };
            let share_e12 = u64::from(row.share_ppm) * u64::from(slot.share_ppm);
            found.push(SlotEarnings { node: row.node, slot: number, share_e12, amounts });
        }
    }
    found
}
