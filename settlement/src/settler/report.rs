//! What a turn did and what is still open.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::plan::Held;
use crate::records::WindowKey;
use crate::transitions::State;
use crate::{Error, Result, decimal};

/// The state of settlement after a turn. Amounts are base units (µ$).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When the turn began, unix milliseconds.
    pub at_ms: u64,
    /// The chain's newest block; 0 while it cannot be reached.
    pub head: u64,
    /// Its newest final block.
    pub finalized: u64,
    /// Windows confirmed so far.
    pub windows_confirmed: u64,
    /// Windows on their way.
    pub windows_open: Vec<(WindowKey, State)>,
    /// Redeem batches on their way.
    pub batches_open: usize,
    /// Value of vouchers that could be redeemed and waits for a threshold.
    #[serde(with = "decimal")]
    pub waiting_units: u128,
    /// Lanes of which something cannot be redeemed.
    pub held: Vec<HeldLane>,
    /// The operator's escrow.
    #[serde(with = "decimal")]
    pub escrow_units: u128,
    /// Royalty posted that the escrow has not paid.
    #[serde(with = "decimal")]
    pub owed_units: u128,
    /// Steps that failed in this turn.
    pub problems: Vec<Problem>,
}

/// A lane of which something cannot be redeemed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLane {
    /// The channel.
    pub channel: B256,
    /// The model.
    pub model: B256,
    /// Why.
    pub reason: Held,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which step.
    pub step: String,
    /// The error.
    pub message: String,
    /// Whether the next turn may succeed without anybody changing anything.
    pub retryable: bool,
}

impl Report {
    /// Whether everything sealed is on chain and final, as far as it can be: no window or batch on its way, no value
    /// waiting.
    pub fn is_settled(&self) -> bool {
        self.problems.is_empty()
            && self.windows_open.is_empty()
            && self.batches_open == 0
            && self.waiting_units == 0
            && !self.can_pay_owed()
    }

    /// Whether the escrow could pay royalty that is owed.
    pub fn can_pay_owed(&self) -> bool {
        self.owed_units > 0 && self.escrow_units > 0
    }

    /// A problem that the next turns will not cure by themselves.
    pub fn stuck(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| !problem.retryable)
    }

    /// Takes over what the chain said in an earlier turn.
    pub(super) fn keep_books_of(&mut self, earlier: Self) {
        let Self { waiting_units, held, escrow_units, owed_units, .. } = earlier;
        *self = Self { waiting_units, held, escrow_units, owed_units, ..std::mem::take(self) };
    }

    /// Keeps the error of a step; only a probe's stop goes further up.
    pub(super) fn note(&mut self, step: &str, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(stopped @ Error::Stopped(_)) => Err(stopped),
            Err(error) => {
                let retryable = error.is_retryable();
                self.problems.push(Problem { step: step.into(), message: error.to_string(), retryable });
                Ok(())
            }
        }
    }
}
