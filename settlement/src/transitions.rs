//! The life of a sealed window, and of a redeem batch, as settlement sees it.
//!
//! A window reaches this crate already sealed. From there one table says what may follow what; the ledger stores
//! each step by compare-and-set before the step's effect, so that a process killed between the two repeats an effect
//! that is idempotent rather than losing one.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How far a window or a batch has come. A redeem batch is born [`State::Signed`]: its rows are signed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The meter's seal was read and its totals were added to the lanes.
    Sealed,
    /// The operator's Claims are signed and published, and the transactions are planned.
    Signed,
    /// The transactions are with the sender.
    Submitted,
    /// The chain shows their effect at finality.
    Confirmed,
}

/// What may happen to a window or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Claims and plan are ready.
    Sign,
    /// About to be handed to the sender.
    Submit,
    /// The effect is final.
    Confirm,
    /// A transaction was reverted or dropped: plan again under a fresh attempt.
    Refuse,
    /// The chain lost an effect that had been final (a restored or replaced chain): send it again. Harmless, since
    /// every effect is a cumulative total.
    RollBack,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 4] = [Self::Sealed, Self::Signed, Self::Submitted, Self::Confirmed];
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 5] = [Self::Sign, Self::Submit, Self::Confirm, Self::Refuse, Self::RollBack];
}

/// The whole table: what is not here is refused.
const TABLE: [(State, Event, State); 5] = [
    (State::Sealed, Event::Sign, State::Signed),
    (State::Signed, Event::Submit, State::Submitted),
    (State::Submitted, Event::Confirm, State::Confirmed),
    (State::Submitted, Event::Refuse, State::Signed),
    (State::Confirmed, Event::RollBack, State::Signed),
];

/// The state after `event`.
///
/// # Errors
/// [`Error::Transition`] for a pair that the table does not hold.
pub fn next(from: State, event: Event) -> Result<State> {
    TABLE
        .iter()
        .find(|(state, on, _)| *state == from && *on == event)
        .map(|(_, _, to)| *to)
        .ok_or(Error::Transition { from, event })
}

/// A state with the time at which each was last entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The current state.
    pub state: State,
    /// Unix milliseconds at which the current state was entered.
    pub since_ms: u64,
    /// How often the effect was planned anew: part of every intent id, so that a new attempt is a new intent.
    pub attempt: u32,
}

impl Progress {
    /// Begins in `state` at `now_ms`.
    pub fn begin(state: State, now_ms: u64) -> Self {
        Self { state, since_ms: now_ms, attempt: 0 }
    }

    /// The progress after `event` at `now_ms`; going back to [`State::Signed`] starts a new attempt.
    ///
    /// # Errors
    /// As [`next`].
    pub fn after(&self, event: Event, now_ms: u64) -> Result<Self> {
        let state = next(self.state, event)?;
        let attempt = match event {
            Event::Refuse | Event::RollBack => self.attempt.saturating_add(1),
            Event::Sign | Event::Submit | Event::Confirm => self.attempt,
        };
        Ok(Self { state, since_ms: now_ms, attempt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: states in order; columns: events in order; a blank is a refusal.
    const EXPECTED: [[Option<State>; 5]; 4] = [
        [Some(State::Signed), None, None, None, None],
        [None, Some(State::Submitted), None, None, None],
        [None, None, Some(State::Confirmed), Some(State::Signed), None],
        [None, None, None, None, Some(State::Signed)],
    ];

    #[test]
    fn the_whole_table() {
        for (row, from) in State::ALL.into_iter().enumerate() {
            for (column, event) in Event::ALL.into_iter().enumerate() {
                assert_eq!(next(from, event).ok(), EXPECTED[row][column], "{from:?} on {event:?}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_state_and_the_event() {
        let error = next(State::Sealed, Event::Confirm).unwrap_err().to_string();
        assert!(error.contains("Sealed") && error.contains("Confirm"), "{error}");
    }

    #[test]
    fn only_a_way_back_starts_a_new_attempt() {
        let sealed = Progress::begin(State::Sealed, 1);
        let signed = sealed.after(Event::Sign, 2).unwrap();
        let submitted = signed.after(Event::Submit, 3).unwrap();
        let refused = submitted.after(Event::Refuse, 4).unwrap();
        assert_eq!((signed.attempt, submitted.attempt, refused.attempt), (0, 0, 1));
        assert_eq!((refused.state, refused.since_ms), (State::Signed, 4));
    }
}
