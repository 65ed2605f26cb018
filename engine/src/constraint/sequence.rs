//! The grammar of one answer, token after token.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use llguidance::{CancellationHandle, Matcher};

use super::compile::SharedMatcher;
use super::helper::{Answer, Helper, Job, State, Step};
use super::{ConstraintError, TokenMask};

/// Longest time that one mask may take, once the helper has begun with it. Fuel ends it long before, unless the machine
/// is overloaded: what is allowed never depends on this.
const MASK_TIME: Duration = Duration::from_secs(2);

/// What an answer may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// Choose one of the mask's tokens; one that ends the answer is in it only if the answer is complete as it is.
    Choose {
        /// The tokens that are allowed; never empty.
        mask: &'a TokenMask,
        /// Tokens that must come next in any case, the first being the only one in the mask: all of them may be taken
        /// at once, without asking the model. Often empty.
        forced: &'a [u32],
    },
    /// Nothing: the answer is complete and no token but an ending one can follow.
    Complete,
}

/// Holds one answer to its grammar.
///
/// Computing is the helper thread's: [`Constraint::begin`] hands it the tokens just chosen, [`Constraint::poll`] asks
/// whether the next mask is there. A first mask is computed from the start on, while the prompt is read. Dropping it
/// ends what is being computed for it.
pub struct Constraint {
    helper: Helper,
    turn: Turn,
    answer: Receiver<Answer>,
}

enum Turn {
    Ready(Box<Matcher>, Step),
    Computing { started: Arc<OnceLock<Instant>>, cancel: Option<CancellationHandle> },
    Failed(ConstraintError),
}

impl Constraint {
    pub(super) fn start(grammar: &Arc<SharedMatcher>, helper: &Helper) -> Self {
        let turn = Turn::Failed(ConstraintError::Stopped);
        let mut constraint = Self { helper: helper.clone(), turn, answer: sync_channel(1).1 };
        constraint.hand_over(State::Fresh(Arc::clone(grammar)), None);
        constraint
    }

    /// Goes on with tokens that the last mask allowed: one of it, or all of `forced`. Returns at once. A token that ends
    /// the answer is not handed over.
    pub fn begin(&mut self, tokens: &[u32]) -> Result<(), ConstraintError> {
        match std::mem::replace(&mut self.turn, Turn::Failed(ConstraintError::OutOfTurn)) {
            Turn::Ready(_, step) if !step.allows(tokens) => {
                let error = ConstraintError::Strayed { tokens: tokens.to_vec() };
                self.turn = Turn::Failed(error.clone());
                Err(error)
            }
            Turn::Ready(matcher, Step { fuel, .. }) => {
                let cancel = matcher.cancellation_handle();
                self.hand_over(State::Going { matcher, tokens: tokens.to_vec(), fuel }, cancel);
                Ok(())
            }
            Turn::Computing { cancel, .. } => {
                cancel.inspect(CancellationHandle::cancel);
                Err(ConstraintError::OutOfTurn)
            }
            Turn::Failed(error) => {
                self.turn = Turn::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// What may come next, if it is known already. An error is final: the answer has failed.
    pub fn poll(&mut self) -> Poll<Result<Next<'_>, ConstraintError>> {
        if let Turn::Computing { .. } = self.turn {
            match self.answer.try_recv() {
                Ok(answer) => self.settle(answer),
                Err(TryRecvError::Empty) => self.check_time(),
                Err(TryRecvError::Disconnected) => self.turn = Turn::Failed(ConstraintError::Stopped),
            }
        }
        self.next()
    }

    /// As [`Constraint::poll`], but waits up to `patience`: for a scheduler that has nothing else to compute.
    pub fn wait(&mut self, patience: Duration) -> Poll<Result<Next<'_>, ConstraintError>> {
        if let Turn::Computing { .. } = self.turn {
            match self.answer.recv_timeout(patience) {
                Ok(answer) => self.settle(answer),
                Err(RecvTimeoutError::Timeout) => self.check_time(),
                Err(RecvTimeoutError::Disconnected) => self.turn = Turn::Failed(ConstraintError::Stopped),
            }
        }
        self.next()
    }

    /// A second answer that goes on from the same tokens; `None` while the mask is being computed or after an error.
    pub fn fork(&self) -> Option<Self> {
        let Turn::Ready(matcher, step) = &self.turn else { return None };
        let step = Step { mask: step.mask.clone(), forced: step.forced.clone(), fuel: step.fuel };
        let turn = Turn::Ready(Box::new(matcher.deep_clone()), step);
        Some(Self { helper: self.helper.clone(), turn, answer: sync_channel(1).1 })
    }

    fn hand_over(&mut self, state: State, cancel: Option<CancellationHandle>) {
        let started = Arc::new(OnceLock::new());
        // The job alone has the sender, so that a helper that dies with it is noticed.
        let (sender, receiver) = sync_channel(1);
        let job = Job { state, started: Arc::clone(&started), answer: sender };
        self.answer = receiver;
        self.turn = Turn::Computing { started, cancel };
        self.helper.take(job);
    }

    fn settle(&mut self, answer: Answer) {
        self.turn = match answer {
            Ok((matcher, step)) => Turn::Ready(matcher, step),
            Err(error) => Turn::Failed(error),
        };
    }

    fn check_time(&mut self) {
        let Turn::Computing { started, cancel } = &self.turn else { return };
        if started.get().is_some_and(|start| start.elapsed() > MASK_TIME) {
            cancel.as_ref().inspect(|cancel| cancel.cancel());
            self.turn = Turn::Failed(ConstraintError::TooSlow { limit: MASK_TIME });
        }
    }

    fn next(&self) -> Poll<Result<Next<'_>, ConstraintError>> {
        match &self.turn {
            Turn::Computing { .. } => Poll::Pending,
            Turn::Failed(error) => Poll::Ready(Err(error.clone())),
            Turn::Ready(_, Step { mask: None, .. }) => Poll::Ready(Ok(Next::Complete)),
            Turn::Ready(_, Step { mask: Some(mask), forced, .. }) => {
                Poll::Ready(Ok(Next::Choose { mask, forced }))
            }
        }
    }
}

impl Drop for Constraint {
    fn drop(&mut self) {
        if let Turn::Computing { cancel: Some(cancel), .. } = &self.turn {
            cancel.cancel();
        }
    }
}
