//! Who gets what of a model's royalty, exactly as the pool computes it.

use alloy::primitives::{Address, U256};

use crate::{ModelId, ModelView, Result, Row, Snapshot};

/// What one slot of one node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The node, or the verifiers' pot.
    pub node: ModelId,
    /// Slot within the node.
    pub slot: u8,
    /// Whom the pool pays.
    pub payee: Address,
    /// Base units (µ$).
    pub units: u128,
}

/// `floor(royalty · share · slot / 10¹²)` of every slot of every row, in the table's order. What the floors leave over stays
/// in the pool. `royalty_units` is cumulative: splitting differences would round twice.
///
/// # Errors
/// [`crate::Error::UnknownModel`].
pub fn split(snapshot: &Snapshot, model: ModelId, royalty_units: u128) -> Result<Vec<Share>> {
    let view = snapshot.require(model)?;
    let mut shares = Vec::new();
    for row in &view.rows {
        for (slot, payee, share_ppm) in payees(snapshot, view, row) {
            let units = slot_units(royalty_units, row.share_ppm, share_ppm);
            shares.push(Share { node: row.node, slot, payee, units });
        }
    }
    Ok(shares)
}

/// `floor(royalty · share · slot / 10¹²)`.
pub fn slot_units(royalty_units: u128, row_ppm: u32, slot_ppm: u32) -> u128 {
    let product = U256::from(royalty_units) * U256::from(u64::from(row_ppm) * u64::from(slot_ppm));
    let units = product / U256::from(1_000_000_000_000u64);
    units.try_into().expect("a share is at most the royalty, which is a u128")
}

/// Slot, payee and the slot's part of the row in ppm. The pot has one slot, with all of it.
fn payees(snapshot: &Snapshot, model: &ModelView, row: &Row) -> Vec<(u8, Address, u32)> {
    if let Some(node) = snapshot.model(row.node) {
        return (0u8..).zip(&node.slots).map(|(i, slot)| (i, slot.payee, slot.share_ppm)).collect();
    }
    let track = model.track.and_then(|track| snapshot.track_by_id(track));
    track.map(|track| (0, track.verifiers, 1_000_000)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// I6: the slots together never get more than the royalty, and none ever loses when it grows.
        #[test]
        fn slots_are_paid_no_more_than_the_royalty_and_never_less_than_before(
            royalty in any::<u128>(),
            more in any::<u128>(),
            rows in prop::collection::vec(1..=31_250u32, 1..=32),
            slot in 0..=1_000_000u32,
        ) {
            let whole: u32 = rows.iter().sum();
            prop_assert!(whole <= 1_000_000);
            let paid = rows.iter().fold(0u128, |sum, row| {
                sum + slot_units(royalty, *row, slot) + slot_units(royalty, *row, 1_000_000 - slot)
            });
            prop_assert!(paid <= royalty);
            let grown = royalty.saturating_add(more);
            prop_assert!(rows.iter().all(|row| slot_units(grown, *row, slot) >= slot_units(royalty, *row, slot)));
        }
    }

    #[test]
    fn the_whole_of_the_largest_royalty_fits() {
        assert_eq!(slot_units(u128::MAX, 1_000_000, 1_000_000), u128::MAX);
        assert_eq!(slot_units(999, 500_000, 500_000), 249);
    }
}
