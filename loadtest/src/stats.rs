//! Histograms and counts of a run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::{Answer, Outcome};

/// Longest time told apart from longer ones.
const MAX_MICROS: u64 = 3_600_000_000;
/// Significant digits of a recorded time.
const DIGITS: u8 = 3;

/// When a call should have started, and did.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// By the schedule; in closed loop, the same as `actual`.
    pub intended: Instant,
    /// When the generator began to send it.
    pub actual: Instant,
    /// Whether it had to wait for the cap on concurrency: a lateness that is the server's.
    pub held: bool,
}

/// Everything measured about the calls counted. Latencies are of successful calls, from their intended start, in µs.
#[derive(Debug)]
pub struct Stats {
    /// To the last byte.
    pub total: Histogram<u64>,
    /// To the first text of a stream.
    pub first_token: Histogram<u64>,
    /// Between the texts of a stream.
    pub inter_token: Histogram<u64>,
    /// How late the generator itself started calls that were not held by the cap.
    pub lag: Histogram<u64>,
    /// Ends of calls by kind.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Prompt tokens of successful calls.
    pub prompt_tokens: u64,
    /// Generated tokens of successful calls.
    pub completion_tokens: u64,
    /// Calls held by the cap.
    pub held: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            total: histogram(),
            first_token: histogram(),
            inter_token: histogram(),
            lag: histogram(),
            outcomes: BTreeMap::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            held: 0,
        }
    }
}

impl Stats {
    /// Counts one call.
    pub fn record(&mut self, start: Start, answer: &Answer) {
        if start.held {
            self.held += 1;
        } else {
            record(&mut self.lag, start.actual - start.intended);
        }
        *self.outcomes.entry(answer.outcome).or_default() += 1;
        if !answer.outcome.is_ok() {
            return;
        }
        record(&mut self.total, answer.ended.saturating_duration_since(start.intended));
        if let Some(first) = answer.text_at.first() {
            record(&mut self.first_token, first.saturating_duration_since(start.intended));
        }
        for pair in answer.text_at.windows(2) {
            record(&mut self.inter_token, pair[1] - pair[0]);
        }
        self.prompt_tokens += answer.usage.prompt_tokens;
        self.completion_tokens += answer.usage.completion_tokens;
    }

    /// Calls counted.
    pub fn calls(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Calls that succeeded.
    pub fn ok(&self) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| outcome.is_ok()).map(|(_, n)| n).sum()
    }
}

/// The statistics of a run, shared by its calls.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Stats>);

impl Recorder {
    /// Counts one call.
    pub fn record(&self, start: Start, answer: &Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(start, answer);
    }

    /// Takes what was recorded, leaving nothing.
    pub fn take(&self) -> Stats {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Points of a distribution, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Samples.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

impl Quantiles {
    /// The points of a histogram, or `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |q| histogram.value_at_quantile(q);
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        })
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_MICROS, DIGITS).expect("constant bounds and digits are valid")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS));
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::sse::Usage;

    fn answer(outcome: Outcome, text_at: Vec<Instant>, ended: Instant) -> Answer {
        Answer { outcome, text_at, usage: Usage { prompt_tokens: 3, completion_tokens: 2 }, ended }
    }

    #[test]
    fn latencies_count_from_the_intended_start() {
        let intended = Instant::now();
        let ms = |n| intended + Duration::from_millis(n);
        let mut stats = Stats::default();
        let held = Start { intended, actual: ms(50), held: true };
        stats.record(held, &answer(Outcome::Ok(StatusCode::OK), vec![ms(60), ms(65)], ms(80)));
        assert_eq!(stats.total.max() / 1000, 80);
        assert_eq!(stats.first_token.max() / 1000, 60);
        assert_eq!(stats.inter_token.max() / 1000, 5);
        assert_eq!((stats.held, stats.lag.len()), (1, 0));
        assert_eq!((stats.prompt_tokens, stats.completion_tokens), (3, 2));
    }

    #[test]
    fn failures_are_counted_by_kind_and_kept_out_of_the_latencies() {
        let now = Instant::now();
        let start = Start { intended: now, actual: now, held: false };
        let mut stats = Stats::default();
        stats.record(start, &answer(Outcome::Refused(StatusCode::TOO_MANY_REQUESTS), vec![], now));
        stats.record(start, &answer(Outcome::TimedOut, vec![], now));
        assert_eq!((stats.calls(), stats.ok(), stats.lag.len()), (2, 0, 2));
        assert!(Quantiles::of(&stats.total).is_none());
        assert_eq!(stats.completion_tokens, 0);
    }
}
