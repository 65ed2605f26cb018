//! Spans of time, counted by length.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets, in milliseconds; one more has all that is longer.
const BOUNDS_MS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000];

/// How many spans of time were how long, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_MS.len() + 1],
    /// All spans together.
    pub sum: Duration,
}

impl Histogram {
    /// Number of spans.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bounds, and how many spans were at most so long; the last bound is `None`, for all. As in Prometheus, each
    /// bucket includes those before it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let bounds = BOUNDS_MS.into_iter().map(Duration::from_millis).map(Some).chain([None]);
        bounds.zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }
}

/// The same while it grows.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    nanos: AtomicU64,
}

impl Spans {
    pub(super) fn add(&self, span: Duration) {
        let bucket = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < span);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn snapshot(&self) -> Histogram {
        Histogram {
            counts: self.counts.each_ref().map(|count| count.load(Relaxed)),
            sum: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted_up_to_and_including_their_bound() {
        let spans = Spans::default();
        for millis in [0, 1, 2, 3, 60_000, 300_001] {
            spans.add(Duration::from_millis(millis));
        }
        let histogram = spans.snapshot();
        let at_most = |millis| {
            let bound = Some(Duration::from_millis(millis));
            histogram.buckets().find(|(found, _)| *found == bound).map(|(_, count)| count)
        };
        assert_eq!([1, 2, 5, 30_000, 60_000, 300_000].map(at_most), [2, 3, 4, 4, 5, 5].map(Some));
        assert_eq!(histogram.buckets().last(), Some((None, 6)));
        assert_eq!((histogram.count(), histogram.sum), (6, Duration::from_millis(360_007)));
    }
}
