//! What one step computes.

use super::fair::{Shares, TURNS_PER_OLDEST};
use super::standing::Standing;

/// Tokens of one request in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which of the running requests.
    pub(super) index: usize,
    /// Its next tokens, so many.
    pub(super) tokens: usize,
    /// Whether it is the one token of an answer under way.
    pub(super) is_decode: bool,
}

/// A running request, as far as planning goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) standing: Standing,
    /// Its next step is one token of an answer.
    pub(super) decoding: bool,
    /// It waits for another that computes the same prompt.
    pub(super) held: bool,
    /// When it came or last had a turn of prefill, by `Order::tick`.
    pub(super) turn: u64,
}

/// Room for prompts in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Prompt tokens.
    pub(super) tokens: usize,
    /// Chunks begin at multiples of this and are never cut to fit: for a backend whose rounding depends on the shape of a
    /// pass, that keeps an answer the same alone and in company.
    pub(super) grid: Option<usize>,
}

/// Whose prompt is read next: the tenant's that has had least, there by priority, deadline and turns. Every eighth turn
/// is for whoever has waited longest for one.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) shares: Shares,
    /// Turns given so far.
    turns: u64,
    /// Turns and arrivals so far.
    clock: u64,
}

impl Order {
    /// The place in the order of turns that an arrival takes, or who has just had one.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The turns of one step, each request at most once: one token of every answer under way, then prompt tokens while
    /// there is room. `begin` is told whose turn may come, and says how many tokens that request lacks.
    pub(super) fn plan(
        &mut self,
        candidates: &mut [Candidate],
        room: Room,
        mut begin: impl FnMut(usize) -> usize,
    ) -> Vec<Turn> {
        let decoding = (0..candidates.len()).filter(|index| candidates[*index].decoding);
        let mut turns: Vec<Turn> = decoding.map(|index| Turn { index, tokens: 1, is_decode: true }).collect();
        let waits = |candidate: &Candidate| !candidate.decoding && !candidate.held;
        let mut waiting: Vec<usize> =
            (0..candidates.len()).filter(|index| waits(&candidates[*index])).collect();
        let mut left = room.tokens;
        while let Some(place) = self.next(candidates, &waiting).filter(|_| left > 0) {
            let index = waiting.swap_remove(place);
            let Candidate { standing, .. } = candidates[index];
            let pending = begin(index);
            let tokens = pending.min(room.grid.unwrap_or(left));
            if tokens > left {
                break;
            }
            left -= tokens;
            self.turns += 1;
            candidates[index].turn = self.tick();
            self.shares.charge(standing.tenant, standing.priority, tokens);
            turns.push(Turn { index, tokens, is_decode: false });
        }
        turns
    }

    /// The place in `waiting` of the next prompt.
    fn next(&self, candidates: &[Candidate], waiting: &[usize]) -> Option<usize> {
        let candidate = |place: &usize| &candidates[waiting[*place]];
        let places = 0..waiting.len();
        if self.turns % TURNS_PER_OLDEST == TURNS_PER_OLDEST - 1 {
            return places.min_by_key(|place| candidate(place).turn);
        }
        places.min_by_key(|place| {
            let Candidate { standing, turn, .. } = candidate(place);
            (self.shares.served(standing.tenant), standing.urgency(), *turn)
        })
    }
}
