//! From pico-dollars to the chain's base units (µ$), for one lane.
//!
//! A lane is one payer's running total for one model. Only its cumulative total is ever floored, never a call or a
//! batch, so rounding cannot accumulate and every figure below is monotone in the total. The contracts compute the same.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

/// Pico-dollars in one base unit of the token (µ$).
pub const PICO_PER_UNIT: u128 = 1_000_000;
/// Parts per million that make a whole.
pub const PPM: u128 = 1_000_000;

/// One payer's total for one model. `channel` is `None` for the operator's own channel, the prepaid lane of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The payer's channel.
    pub channel: Option<B256>,
    /// The model, as bytes32.
    pub model: B256,
}

/// What a lane's total amounts to in base units: `charge == royalty + operator`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// `C = floor(cumulative_pico / 10⁶)`.
    pub charge_units: u128,
    /// `R = floor(C·royalty_ppm / 10⁶)`.
    pub royalty_units: u128,
    /// `C − R`.
    pub operator_units: u128,
}

/// Splits a lane's cumulative pico-dollars by the model's royalty rate. Sub-unit dust stays in the lane.
///
/// A rate above 10⁶ counts as 10⁶: the registry admits none above 500,000.
pub fn split(cumulative_pico: u128, royalty_ppm: u32) -> Split {
    split_units(target_units(cumulative_pico), royalty_ppm)
}

/// Splits what a lane has paid so far, in base units: royalty and operator part follow from the cumulative payment.
pub fn split_units(charge_units: u128, royalty_ppm: u32) -> Split {
    let ppm = u128::from(royalty_ppm).min(PPM);
    // floor(C·ppm / 10⁶) with C = q·10⁶ + r, so that no product can overflow.
    let royalty_units = charge_units / PPM * ppm + charge_units % PPM * ppm / PPM;
    Split { charge_units, royalty_units, operator_units: charge_units - royalty_units }
}

/// `floor(cumulative / 10⁶)`: what the lane should have paid in total, in base units.
pub fn target_units(cumulative_pico: u128) -> u128 {
    cumulative_pico / PICO_PER_UNIT
}

/// What a redemption moves now: `min(target − paid, deposit left)`; nothing if the lane already paid more.
pub fn redeemable_units(cumulative_pico: u128, paid_units: u128, deposit_left_units: u128) -> u128 {
    target_units(cumulative_pico).saturating_sub(paid_units).min(deposit_left_units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn royalty_and_operator_part_make_the_charge(pico in any::<u128>(), ppm in 0u32..=1_000_000) {
            let split = split(pico, ppm);
            prop_assert_eq!(split.royalty_units + split.operator_units, split.charge_units);
            prop_assert_eq!(split.charge_units, pico / 1_000_000);
        }

        #[test]
        fn every_figure_is_monotone_in_the_total(pico in any::<u128>(), more in any::<u128>(), ppm in 0u32..=1_000_000) {
            let before = split(pico, ppm);
            let after = split(pico.saturating_add(more), ppm);
            prop_assert!(after.charge_units >= before.charge_units);
            prop_assert!(after.royalty_units >= before.royalty_units);
            prop_assert!(after.operator_units >= before.operator_units);
        }

        #[test]
        fn the_royalty_is_the_plain_floor(units in 0..=u128::MAX / 1_000_000, ppm in 0u32..=1_000_000) {
            prop_assert_eq!(split_units(units, ppm).royalty_units, units * u128::from(ppm) / 1_000_000);
        }

        /// However a total is cut into redemptions, and however the deposit runs short, the sums agree with one split.
        #[test]
        fn redemptions_in_steps_end_where_one_would(
            steps in prop::collection::vec(0u128..50_000_000_000, 1..20),
            deposit in 0u128..400_000,
            ppm in 0u32..=500_000,
        ) {
            let (mut total, mut paid, mut royalty, mut operator) = (0u128, 0u128, 0u128, 0u128);
            for step in steps {
                total += step;
                let before = split_units(paid, ppm);
                paid += redeemable_units(total, paid, deposit - paid);
                let after = split_units(paid, ppm);
                royalty += after.royalty_units - before.royalty_units;
                operator += after.operator_units - before.operator_units;
                prop_assert_eq!(paid, royalty + operator);
            }
            prop_assert_eq!(paid, target_units(total).min(deposit));
            prop_assert_eq!(redeemable_units(total, paid, deposit - paid), 0);
        }
    }

    #[test]
    fn a_lane_ahead_of_its_total_redeems_nothing() {
        assert_eq!(redeemable_units(5_000_000, 7, 100), 0);
    }
}
