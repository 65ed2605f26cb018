//! Each voucher pays for one call.
//!
//! Vouchers become public: they are redeemed on a chain, and seals are served to whoever asks. A signature that paid
//! once must therefore not pay again for somebody who read it there.
//!
//! Of a lane's vouchers the highest is redeemed, alone. Where calls run side by side a lower one may come after it; then the
//! higher one has to outlast that call too.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use dividend_chain::B256;

/// Lanes remembered at once. A forgotten one begins again at what was journaled, which is all that was ever public.
const MAX_LANES: usize = 65_536;
/// Vouchers of one lane that may be overtaken by higher ones, when calls run side by side.
const MAX_OVERTAKEN: usize = 256;

/// Which vouchers have paid.
#[derive(Debug, Default)]
pub(crate) struct Spent(Mutex<HashMap<Lane, Paid>>);

/// A channel's lane: channel and model.
type Lane = (B256, B256);

/// What paid on a lane, by `maxCumulative` in pico-dollars.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Paid {
    /// Nothing up to here pays any more.
    floor: u128,
    /// Above it, these have paid; with the expiry of each, unix seconds.
    above: BTreeMap<u128, u64>,
}

impl Spent {
    /// Takes a voucher for a call; false if it, or one that may have been it, has paid before. `journaled` is the lane's
    /// highest voucher in the journal: all that were published are among those up to it.
    pub(crate) fn take(&self, lane: Lane, journaled: u128, max_cumulative: u128, expiry: u64) -> bool {
        self.on(lane, journaled, |paid| paid.take(max_cumulative, expiry))
    }

    /// The least expiry among the vouchers above this one that have paid since the process began; `None` if it is the
    /// highest.
    pub(crate) fn shortest_above(&self, lane: Lane, journaled: u128, max_cumulative: u128) -> Option<u64> {
        self.on(lane, journaled, |paid| {
            let above = (Bound::Excluded(max_cumulative), Bound::Unbounded);
            paid.above.range(above).map(|(_, expiry)| *expiry).min()
        })
    }

    /// Whether [`Spent::take`] would refuse the voucher.
    pub(crate) fn has(&self, lane: Lane, journaled: u128, max_cumulative: u128) -> bool {
        self.on(lane, journaled, |paid| paid.has(max_cumulative))
    }

    /// The least voucher of a lane that no call has been paid with, nor with a higher one.
    pub(crate) fn fresh(&self, lane: Lane, journaled: u128) -> u128 {
        self.on(lane, journaled, |paid| paid.highest().saturating_add(1))
    }

    fn on<T>(&self, lane: Lane, journaled: u128, work: impl FnOnce(&mut Paid) -> T) -> T {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= MAX_LANES && !lanes.contains_key(&lane) {
            lanes.clear();
        }
        work(lanes.entry(lane).or_insert(Paid { floor: journaled, above: BTreeMap::new() }))
    }
}

impl Paid {
    fn has(&self, max_cumulative: u128) -> bool {
        max_cumulative <= self.floor || self.above.contains_key(&max_cumulative)
    }

    fn take(&mut self, max_cumulative: u128, expiry: u64) -> bool {
        if self.has(max_cumulative) {
            return false;
        }
        self.above.insert(max_cumulative, expiry);
        while self.above.len() > MAX_OVERTAKEN
            && let Some((lowest, _)) = self.above.pop_first()
        {
            self.floor = lowest;
        }
        true
    }

    fn highest(&self) -> u128 {
        self.above.last_key_value().map_or(self.floor, |(highest, _)| *highest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LANE: Lane = (B256::repeat_byte(1), B256::repeat_byte(2));

    #[test]
    fn a_voucher_pays_once_and_one_that_was_overtaken_still_pays() {
        let spent = Spent::default();
        assert_eq!(spent.fresh(LANE, 10), 11);
        assert!(!spent.take(LANE, 10, 10, 1), "what was journaled may be public");
        assert!(spent.take(LANE, 10, 30, 5));
        assert!(spent.take(LANE, 30, 20, 9), "overtaken by the call that brought 30");
        assert!(!spent.take(LANE, 30, 20, 1) && !spent.take(LANE, 30, 30, 1));
        assert_eq!(spent.fresh(LANE, 30), 31);
        let shortest = |max| spent.shortest_above(LANE, 30, max);
        assert_eq!([shortest(15), shortest(20), shortest(30)], [Some(5), Some(5), None]);
        let other = (LANE.0, LANE.0);
        assert!(spent.take(other, 0, 30, 1), "lanes are apart");
    }

    #[test]
    fn the_largest_voucher_is_the_last() {
        let spent = Spent::default();
        assert!(spent.take(LANE, 0, u128::MAX, 1));
        assert!(!spent.take(LANE, 0, spent.fresh(LANE, 0), 1));
    }

    proptest! {
        /// Whatever comes in whatever order, also if lanes are forgotten in between: nothing that was journaled, and so
        /// may be public, ever pays again.
        #[test]
        fn nothing_public_pays_again(offers in proptest::collection::vec((0u128..600, any::<bool>()), 0..800)) {
            let (mut spent, mut journaled, mut public) = (Spent::default(), 0, std::collections::BTreeSet::new());
            for (offer, forget) in offers {
                if forget && offer % 7 == 0 {
                    spent = Spent::default();
                }
                let taken = spent.take(LANE, journaled, offer, 1);
                prop_assert!(!(taken && public.contains(&offer)), "{offer} paid twice");
                if taken && offer > journaled {
                    journaled = offer;
                    public.insert(offer);
                }
                prop_assert!(spent.fresh(LANE, journaled) > journaled);
            }
        }
    }
}
