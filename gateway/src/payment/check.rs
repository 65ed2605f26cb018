//! Whether a voucher pays for a call. Pure: every fact is passed in.

use dividend_chain::eip712::Voucher;
use dividend_registry::{ChannelView, ModelId};

use crate::account::Held;

/// Pico-dollars in a base unit of the token (µ$).
const PICO_PER_UNIT: u128 = 1_000_000;

/// Everything that decides, as of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub channel: &'a ChannelView,
    /// The model that will serve.
    pub lane: ModelId,
    /// Charged to the lane so far.
    pub lane_served_pico: u128,
    /// Charged to the channel so far, over all lanes.
    pub channel_served_pico: u128,
    /// Held by the channel's calls in flight.
    pub held: Held,
    /// The most that this call can cost.
    pub worst_pico: u128,
    /// When the window in which the call is closed is sealed at the latest.
    pub sealed_by_ms: u64,
}

/// Why a voucher does not pay for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Shortfall {
    #[error("the voucher is for lane {found}, but the model that serves is {expected}; sign for that lane")]
    Lane { found: ModelId, expected: ModelId },
    #[error("the voucher expires at {expiry}, but must outlive its settlement at {needed} (unix seconds)")]
    Expiry { expiry: u64, needed: u64 },
    #[error(
        "the voucher promises {found} pico-dollars in total, but this call needs {needed}; sign for that"
    )]
    TooLow { found: u128, needed: u128 },
    #[error("the voucher over {found} pico-dollars has paid for a call before; sign one over {needed}")]
    Used { found: u128, needed: u128 },
    #[error(
        "this call may cost {worst_pico} pico-dollars, but the channel has {spendable_pico} left; deposit more"
    )]
    Exhausted { worst_pico: u128, spendable_pico: u128 },
}

impl Shortfall {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Lane { .. } => "voucher_lane",
            Self::Expiry { .. } => "voucher_expired",
            Self::TooLow { .. } => "voucher_too_low",
            Self::Used { .. } => "voucher_used",
            Self::Exhausted { .. } => "channel_exhausted",
        }
    }
}

impl Standing<'_> {
    /// The least `maxCumulative` that pays for this call and for those in flight.
    pub(crate) fn needed_pico(&self) -> u128 {
        self.lane_served_pico.saturating_add(self.held.lane_pico).saturating_add(self.worst_pico)
    }

    /// The least `expiry`, unix seconds: the voucher must still be redeemable when a withdrawal asked for at the end
    /// of the call's window matures.
    pub(crate) fn needed_expiry_s(&self) -> u64 {
        (self.sealed_by_ms / 1_000).saturating_add(self.channel.withdraw_delay_s).saturating_add(1)
    }

    /// Deposit that nothing has a claim on: neither what was redeemed or served, nor calls in flight, nor a
    /// withdrawal that was asked for.
    pub(crate) fn spendable_pico(&self) -> u128 {
        let pico = |units: u128| units.saturating_mul(PICO_PER_UNIT);
        let withdrawing = self.channel.withdrawal.map_or(0, |withdrawal| withdrawal.amount_units);
        let gone = pico(self.channel.redeemed_units).max(self.channel_served_pico);
        pico(self.channel.deposit_units)
            .saturating_sub(gone)
            .saturating_sub(self.held.total_pico)
            .saturating_sub(pico(withdrawing))
    }
}

/// Checks a voucher whose signature is known to be good.
pub(crate) fn check(voucher: &Voucher, standing: &Standing<'_>) -> Result<(), Shortfall> {
    let lane = ModelId::from(voucher.lane);
    if lane != standing.lane {
        return Err(Shortfall::Lane { found: lane, expected: standing.lane });
    }
    let needed = standing.needed_expiry_s();
    if voucher.expiry < needed {
        return Err(Shortfall::Expiry { expiry: voucher.expiry, needed });
    }
    let needed = standing.needed_pico();
    if voucher.maxCumulative < needed {
        return Err(Shortfall::TooLow { found: voucher.maxCumulative, needed });
    }
    let spendable_pico = standing.spendable_pico();
    if spendable_pico < standing.worst_pico {
        return Err(Shortfall::Exhausted { worst_pico: standing.worst_pico, spendable_pico });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dividend_chain::{Address, B256};
    use dividend_registry::Withdrawal;

    use super::*;

    const LANE: ModelId = ModelId([3; 32]);

    fn channel() -> ChannelView {
        ChannelView {
            id: B256::repeat_byte(1),
            payer: Address::ZERO,
            signer: Address::ZERO,
            operator: Address::ZERO,
            withdraw_delay_s: 100,
            deposit_units: 10,
            redeemed_units: 2,
            lanes: BTreeMap::new(),
            withdrawal: None,
        }
    }

    fn standing(channel: &ChannelView) -> Standing<'_> {
        Standing {
            channel,
            lane: LANE,
            lane_served_pico: 1_500_000,
            channel_served_pico: 3_000_000,
            held: Held { total_pico: 2_000_000, lane_pico: 500_000 },
            worst_pico: 1_000_000,
            sealed_by_ms: 50_999,
        }
    }

    fn voucher(max: u128, expiry: u64) -> Voucher {
        Voucher { channel: B256::repeat_byte(1), lane: LANE.into(), maxCumulative: max, expiry }
    }

    #[test]
    fn the_bounds_are_exact() {
        let channel = channel();
        let standing = standing(&channel);
        assert_eq!(check(&voucher(3_000_000, 151), &standing), Ok(()));
        let low = check(&voucher(2_999_999, 151), &standing);
        assert_eq!(low, Err(Shortfall::TooLow { found: 2_999_999, needed: 3_000_000 }));
        let expired = check(&voucher(3_000_000, 150), &standing);
        assert_eq!(expired, Err(Shortfall::Expiry { expiry: 150, needed: 151 }));
        let foreign = Voucher { lane: B256::repeat_byte(4), ..voucher(3_000_000, 151) };
        assert!(matches!(check(&foreign, &standing), Err(Shortfall::Lane { .. })));
    }

    #[test]
    fn nothing_with_a_claim_on_it_can_be_spent() {
        let mut channel = channel();
        assert_eq!(standing(&channel).spendable_pico(), 5_000_000, "10 deposited, 3 served, 2 held");
        channel.redeemed_units = 4;
        assert_eq!(standing(&channel).spendable_pico(), 4_000_000, "another gateway's calls were redeemed");
        channel.withdrawal = Some(Withdrawal { amount_units: 4, matures_at_s: 0, lapses_at_s: 0 });
        let exhausted = check(&voucher(u128::MAX, u64::MAX), &standing(&channel));
        assert_eq!(exhausted, Err(Shortfall::Exhausted { worst_pico: 1_000_000, spendable_pico: 0 }));
        channel.deposit_units = u128::MAX;
        assert!(check(&voucher(u128::MAX, u64::MAX), &standing(&channel)).is_ok());
    }
}
