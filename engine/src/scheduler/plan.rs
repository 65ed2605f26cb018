//! What one step computes.

use super::running::Running;

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

/// The turns of one step, each request at most once.
#[derive(Debug, Default)]
pub(super) struct Plan(Vec<Turn>);

impl Plan {
    /// One token of every answer under way, then prompt tokens up to `chunk` in all: a whole chunk of a long prompt, or
    /// several short prompts, by priority and then by turns.
    ///
    /// A prompt's chunks begin at multiples of `chunk` whatever else runs, and are never cut to fit: for a backend whose
    /// rounding depends on the shape of a pass, that keeps an answer the same alone and in company.
    pub(super) fn new(running: &mut [Running], chunk: usize, turns: &mut u64) -> Self {
        let mut plan = Self::default();
        for (index, running) in running.iter().enumerate().filter(|(_, running)| running.decoding()) {
            plan.0.push(Turn { index, tokens: running.pending(), is_decode: true });
        }
        let mut budget = chunk;
        while let Some(index) = plan.next_prefill(running) {
            let tokens = running[index].pending().min(chunk);
            if tokens > budget {
                break;
            }
            budget -= tokens;
            *turns += 1;
            running[index].take_turn(*turns);
            plan.0.push(Turn { index, tokens, is_decode: false });
        }
        plan
    }

    pub(super) fn turns(&self) -> &[Turn] {
        &self.0
    }

    fn next_prefill(&self, running: &[Running]) -> Option<usize> {
        let free = (0..running.len()).filter(|index| !self.0.iter().any(|turn| turn.index == *index));
        let ready = free.filter(|index| !running.iter().any(|other| running[*index].follows(other)));
        ready.min_by_key(|index| running[*index].prefill_order())
    }
}

impl Turn {
    /// The same turn, if fewer tokens are left to compute.
    pub(super) fn within(self, running: &Running) -> Self {
        Self { tokens: self.tokens.min(running.pending()), ..self }
    }
}
