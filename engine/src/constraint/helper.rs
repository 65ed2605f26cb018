//! The thread that computes masks while the model computes logits.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use llguidance::Matcher;
use llguidance::api::StopReason;

use super::compile::SharedMatcher;
use super::error::brief;
use super::{ConstraintError, TokenMask};

/// Fuel that one answer may take in all its steps together: what was computed is kept, so this bounds its memory.
const ANSWER_FUEL: u64 = 1_000_000;

/// What an answer may do next, from the helper.
#[derive(Debug)]
pub(super) struct Step {
    /// `None` if the grammar is complete and nothing can follow.
    pub(super) mask: Option<TokenMask>,
    /// The tokens that must come next, whatever the model says.
    pub(super) forced: Vec<u32>,
    /// Fuel that the answer has taken so far.
    pub(super) fuel: u64,
}

impl Step {
    /// Whether an answer may go on with `tokens`.
    pub(super) fn allows(&self, tokens: &[u32]) -> bool {
        match (&self.mask, tokens) {
            (Some(mask), [token]) => mask.allows(*token),
            _ => !tokens.is_empty() && tokens == self.forced,
        }
    }
}

/// The state of an answer's grammar and what it allows.
pub(super) type Answer = Result<(Box<Matcher>, Step), ConstraintError>;

/// Whose turn it is to be computed.
pub(super) enum State {
    /// An answer that begins.
    Fresh(Arc<SharedMatcher>),
    /// An answer under way, after its next tokens.
    Going { matcher: Box<Matcher>, tokens: Vec<u32>, fuel: u64 },
}

/// One mask to compute.
pub(super) struct Job {
    pub(super) state: State,
    /// Set when the helper takes it up.
    pub(super) started: Arc<OnceLock<Instant>>,
    pub(super) answer: SyncSender<Answer>,
}

/// One thread, and the way to it. Each answer that has a place has at most one job with it, so its queue is bounded by the answers under
/// way. It ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Helper {
    jobs: Option<Sender<Job>>,
}

impl Helper {
    /// Starts the thread. If that fails, every constraint ends in `Stopped`.
    pub(super) fn start() -> Self {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new().name("masks".to_owned());
        let started = thread.spawn(move || work(&queue));
        if let Err(error) = &started {
            tracing::error!(%error, "cannot start the thread that computes masks");
        }
        Self { jobs: started.ok().map(|_| jobs) }
    }

    /// Hands over a job; dropped, and with it its answer's sender, if the thread is gone.
    pub(super) fn take(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

fn work(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        let _ = job.started.set(Instant::now());
        let _ = job.answer.send(compute(job.state));
    }
}

fn compute(state: State) -> Answer {
    let (mut matcher, fuel) = match state {
        State::Fresh(shared) => (shared.copy(), 0),
        State::Going { mut matcher, tokens, fuel } => {
            if let Err(error) = matcher.consume_tokens(&tokens) {
                return Err(failed(&error.to_string()));
            }
            (matcher, fuel)
        }
    };
    let stopped = matcher.stop_reason();
    if matches!(stopped, StopReason::NoExtension | StopReason::EndOfSentence) {
        return Ok((matcher, Step { mask: None, forced: Vec::new(), fuel }));
    }
    let forced = matcher.compute_ff_tokens();
    let set = matcher.compute_mask().map_err(|error| failed(&error.to_string()))?;
    let spent = matcher.last_step_stats().map_or(0, |stats| stats.lexer_cost);
    let fuel = fuel.saturating_add(spent);
    if fuel > ANSWER_FUEL {
        return Err(failed(&format!("it took more than {ANSWER_FUEL} units of fuel")));
    }
    let tokens = set.len();
    let mask = TokenMask::new(set.into(), tokens);
    Ok((matcher, Step { mask: Some(mask), forced, fuel }))
}

/// The tokens were in the mask, so it can only be a limit. (Or a cancellation: then nobody asks any more.)
fn failed(message: &str) -> ConstraintError {
    ConstraintError::TooComplex { reason: brief(message) }
}
