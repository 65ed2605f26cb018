//! How many prompt tokens fit into a step beside the answers under way.

use std::time::Duration;

/// Prompt tokens that a step always has room for, so that prompts are read even while answers alone take longer than the
/// target.
pub(super) const LEAST: usize = 16;

/// How much the latest step counts in an estimate.
const SMOOTHING: f64 = 0.2;
/// A step counts as at most so many times what was expected: one that was held up by others should not slow down the next.
const OUTLIER: f64 = 4.0;
/// Prompt tokens of a step that counts in full; shorter ones mostly measure what a step costs by itself.
const FULL_WEIGHT_TOKENS: f64 = 64.0;
/// Steps are told apart by the logarithm of the answers under way: 1, 2, 3 to 4, … up to 256 and more.
const SIZES: usize = 9;

/// Running estimates of what a step takes.
///
/// A step of answers alone is measured by how many they are; the rest of a step with prompts is divided by their tokens.
/// An answer's part is never overestimated for long, and then the budget settles where steps take the target, whatever the
/// split between the two: with a step of s + c·p, a part d ≤ s taken for the answers and (s + c·p − d) / p for a prompt
/// token, the only fixed point of p ↦ (target − d) · p / (s + c·p − d) is p = (target − s) / c, and it attracts.
#[derive(Debug, Clone, Default)]
pub(super) struct Costs {
    /// Seconds of a step of answers alone, by the logarithm of their number.
    answers: [Option<f64>; SIZES],
    /// Seconds of one more prompt token.
    prompt_token: Option<f64>,
}

impl Costs {
    /// Takes note of a step with so many answers under way and prompt tokens.
    pub(super) fn observe(&mut self, answers: usize, prompt_tokens: usize, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let size = size(answers.max(1));
        if prompt_tokens == 0 {
            return blend(&mut self.answers[size], seconds, SMOOTHING);
        }
        // A step with prompts takes longer than one without.
        for known in self.answers[..=size].iter_mut().flatten() {
            *known = known.min(seconds);
        }
        let rest = (seconds - self.of_answers(answers.max(1))).max(0.0);
        let weight = SMOOTHING * (prompt_tokens as f64 / FULL_WEIGHT_TOKENS).min(1.0);
        blend(&mut self.prompt_token, rest / prompt_tokens as f64, weight);
    }

    /// Prompt tokens that fit into a step of `target` beside so many answers: from 16 to `most`.
    pub(super) fn prompt_tokens(&self, answers: usize, target: Duration, most: usize) -> usize {
        let least = LEAST.min(most);
        let Some(each) = self.prompt_token else { return least };
        let room = (target.as_secs_f64() - self.of_answers(answers)).max(0.0);
        // A cast of what is too large, or of 0 / 0, saturates.
        let tokens = (room / each) as usize / LEAST * LEAST;
        tokens.clamp(least, most)
    }

    /// Seconds of a step of so many answers, or of fewer where that was never seen.
    fn of_answers(&self, answers: usize) -> f64 {
        self.answers[..=size(answers)].iter().rev().flatten().next().copied().unwrap_or(0.0)
    }
}

fn size(answers: usize) -> usize {
    (answers.max(1).next_power_of_two().ilog2() as usize).min(SIZES - 1)
}

fn blend(estimate: &mut Option<f64>, observed: f64, weight: f64) {
    *estimate = Some(match *estimate {
        None => observed,
        Some(known) if known > 0.0 => known + weight * (observed.min(OUTLIER * known) - known),
        Some(known) => known + weight * (observed - known),
    });
}
