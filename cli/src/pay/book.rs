//! What a channel's signer has promised, lane by lane, and the rules by which it promises more. Pure: no clock, no
//! file, no key.

use std::collections::BTreeMap;

use dividend_chain::B256;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Promises of one channel. Amounts are cumulative since the channel was opened, in pico-dollars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    lanes: BTreeMap<B256, Lane>,
}

/// One lane: the payer's running total for one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lane {
    /// Highest voucher signed.
    pub(crate) signed_pico: u128,
    /// Highest total that the gateway said it served.
    pub(crate) served_pico: u128,
}

/// How much may be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    /// Sum of the highest vouchers over all lanes, for the life of the channel.
    pub(crate) total_pico: u128,
    /// Worst case of one call.
    pub(crate) call_pico: u128,
}

/// What the gateway asks for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The model's lane.
    pub(crate) lane: B256,
    /// What the gateway says it served on the lane.
    pub(crate) served_pico: u128,
    /// The voucher it wants.
    pub(crate) max_cumulative_pico: u128,
    /// What the call costs at most, if the gateway says so.
    pub(crate) call_pico: Option<u128>,
}

impl Book {
    /// The voucher to sign for a call, while calls worth `in_flight_pico` at most are running on its lane. Nothing is
    /// promised yet: [`Book::sign`] does that.
    ///
    /// The rule: a call raises the lane's promise by no more than its own worst case, whatever the gateway asks. What the
    /// gateway has served and what it holds for running calls is covered by earlier vouchers, so it can never need more.
    /// And it raises it always, if only by one pico-dollar: a voucher pays for one call.
    ///
    /// # Errors
    /// The caps, or an ask that no honest gateway makes.
    pub(crate) fn consider(&self, ask: &Ask, in_flight_pico: u128, caps: &Caps) -> Result<u128, Refusal> {
        let lane = self.lane(ask.lane);
        let signed_pico = lane.signed_pico;
        if ask.served_pico > signed_pico {
            let (lane, served_pico) = (ask.lane.to_string(), ask.served_pico);
            return Err(Refusal::OverServed { lane, served_pico, signed_pico });
        }
        let asked_pico = ask.max_cumulative_pico;
        let call_pico = ask.call_pico.unwrap_or(asked_pico.saturating_sub(signed_pico));
        if call_pico > caps.call_pico {
            return Err(Refusal::CallCap { call_pico, cap_pico: caps.call_pico });
        }
        let highest = signed_pico.saturating_add(call_pico.max(1));
        if asked_pico > highest || asked_pico < ask.served_pico {
            return Err(Refusal::Implausible { asked_pico, signed_pico, call_pico });
        }
        let served_pico = lane.served_pico.max(ask.served_pico);
        // The gateway computed its figure without the calls that were paid since.
        let needed = served_pico.saturating_add(in_flight_pico).saturating_add(call_pico);
        let promise = asked_pico.max(needed.min(highest)).max(signed_pico.saturating_add(1));
        let total_pico = self.signed_total_pico().saturating_add(promise - signed_pico);
        if total_pico > caps.total_pico {
            return Err(Refusal::Cap { total_pico, cap_pico: caps.total_pico });
        }
        Ok(promise)
    }

    /// Notes that a voucher up to `promise_pico` is about to be signed. Returns whether the book changed, and so must be
    /// stored before the signature leaves.
    pub(crate) fn sign(&mut self, lane: B256, promise_pico: u128) -> bool {
        let lane = self.lanes.entry(lane).or_default();
        let raises = promise_pico > lane.signed_pico;
        lane.signed_pico = lane.signed_pico.max(promise_pico);
        raises
    }

    /// Notes what the gateway says it served; totals never fall.
    pub(crate) fn serve(&mut self, lane: B256, served_pico: u128) {
        let lane = self.lanes.entry(lane).or_default();
        lane.served_pico = lane.served_pico.max(served_pico);
    }

    /// The state of a lane; nothing is promised on a new one.
    pub(crate) fn lane(&self, lane: B256) -> Lane {
        self.lanes.get(&lane).copied().unwrap_or_default()
    }

    /// Every lane that was ever used.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (B256, Lane)> {
        self.lanes.iter().map(|(id, lane)| (*id, *lane))
    }

    /// Sum of the highest vouchers over all lanes.
    pub(crate) fn signed_total_pico(&self) -> u128 {
        self.lanes.values().fold(0, |sum, lane| sum.saturating_add(lane.signed_pico))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LANE: B256 = B256::repeat_byte(7);
    const CAPS: Caps = Caps { total_pico: 1_000, call_pico: 100 };

    fn ask(served_pico: u128, max_cumulative_pico: u128, call_pico: u128) -> Ask {
        Ask { lane: LANE, served_pico, max_cumulative_pico, call_pico: Some(call_pico) }
    }

    fn book(signed_pico: u128, served_pico: u128) -> Book {
        Book { lanes: BTreeMap::from([(LANE, Lane { signed_pico, served_pico })]) }
    }

    #[test]
    fn a_call_is_promised_its_worst_case_over_what_was_served() {
        assert_eq!(Book::default().consider(&ask(0, 40, 40), 0, &CAPS).unwrap(), 40);
        assert_eq!(book(40, 10).consider(&ask(10, 50, 40), 0, &CAPS).unwrap(), 50);
    }

    #[test]
    fn calls_paid_since_the_gateway_asked_are_covered_too() {
        // Two calls were told 40 at once; the second must promise 80, or it is turned away again.
        assert_eq!(book(40, 0).consider(&ask(0, 40, 40), 40, &CAPS).unwrap(), 80);
    }

    #[test]
    fn a_promise_always_rises() {
        assert_eq!(book(90, 10).consider(&ask(10, 30, 20), 0, &CAPS).unwrap(), 91);
        assert_eq!(
            book(90, 90).consider(&ask(90, 91, 0), 0, &CAPS).unwrap(),
            91,
            "a call that costs nothing"
        );
    }

    #[test]
    fn dishonest_asks_are_refused() {
        let refused = |book: &Book, ask: Ask| book.consider(&ask, 0, &CAPS).unwrap_err();
        assert!(matches!(refused(&book(40, 0), ask(41, 60, 19)), Refusal::OverServed { .. }));
        assert!(matches!(refused(&book(40, 0), ask(40, 61, 20)), Refusal::Implausible { .. }));
        assert!(matches!(refused(&book(40, 0), ask(30, 20, 20)), Refusal::Implausible { .. }));
        assert!(matches!(refused(&book(40, 0), ask(40, 141, 101)), Refusal::CallCap { .. }));
        let unsaid = Ask { call_pico: None, ..ask(0, 101, 0) };
        assert!(matches!(refused(&Book::default(), unsaid), Refusal::CallCap { call_pico: 101, .. }));
    }

    #[test]
    fn the_cap_is_over_all_lanes() {
        let mut book = book(950, 950);
        let other = Ask { lane: B256::ZERO, ..ask(0, 60, 60) };
        let refusal = book.consider(&other, 0, &CAPS).unwrap_err();
        assert!(matches!(refusal, Refusal::Cap { total_pico: 1_010, cap_pico: 1_000 }));
        assert!(refusal.to_string().contains("--cap"));
        assert!(book.sign(B256::ZERO, 50));
        assert!(!book.sign(B256::ZERO, 50));
        assert_eq!(book.signed_total_pico(), 1_000);
    }

    /// A step in the life of a channel: a call that asks, honestly or not, or one that ends having cost something.
    #[derive(Clone, Debug)]
    enum Step {
        Ask { lane: u8, served: u64, over: u64, call: Option<u64>, in_flight: u64 },
        Served { lane: u8, served: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let asking = (0u8..3, 0u64..1_500, 0u64..300, proptest::option::of(0u64..200), 0u64..200).prop_map(
            |(lane, served, over, call, in_flight)| Step::Ask { lane, served, over, call, in_flight },
        );
        let serving = (0u8..3, 0u64..1_500).prop_map(|(lane, served)| Step::Served { lane, served });
        proptest::collection::vec(prop_oneof![3 => asking, 1 => serving], 0..200)
    }

    proptest! {
        #[test]
        fn no_sequence_of_asks_breaks_the_caps_or_lowers_a_promise(steps in steps()) {
            let mut book = Book::default();
            for step in steps {
                let before = book.clone();
                match step {
                    Step::Served { lane, served } => book.serve(B256::repeat_byte(lane), served.into()),
                    Step::Ask { lane, served, over, call, in_flight } => {
                        let lane = B256::repeat_byte(lane);
                        let max_cumulative_pico = u128::from(served) + u128::from(over);
                        let ask = Ask { lane, served_pico: served.into(), max_cumulative_pico, call_pico: call.map(u128::from) };
                        let Ok(promise) = book.consider(&ask, in_flight.into(), &CAPS) else { continue };
                        book.sign(lane, promise);
                        let raised = promise - before.lane(lane).signed_pico;
                        prop_assert!((1..=CAPS.call_pico).contains(&raised));
                        prop_assert!(promise >= max_cumulative_pico);
                        prop_assert!(ask.served_pico <= before.lane(lane).signed_pico);
                    }
                }
                prop_assert!(book.signed_total_pico() <= CAPS.total_pico);
                for (id, lane) in before.lanes() {
                    prop_assert!(book.lane(id).signed_pico >= lane.signed_pico);
                    prop_assert!(book.lane(id).served_pico >= lane.served_pico);
                }
                let stored = serde_json::to_string(&book).unwrap();
                prop_assert_eq!(serde_json::from_str::<Book>(&stored).unwrap(), book.clone());
            }
        }
    }
}
