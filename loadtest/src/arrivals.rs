//! Schedules of an open loop: when each call should start, known before the run.

use std::fmt;
use std::time::Duration;

/// A process of arrivals at a mean rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// Mean calls per second.
    pub rate: f64,
    /// Seed of the exponential gaps; `None` for equal gaps.
    pub poisson_seed: Option<u64>,
}

impl Arrivals {
    /// Calls at equal distances.
    pub fn fixed(rate: f64) -> Self {
        Self { rate, poisson_seed: None }
    }

    /// A Poisson process: the same seed gives the same schedule.
    pub fn poisson(rate: f64, seed: u64) -> Self {
        Self { rate, poisson_seed: Some(seed) }
    }

    /// The offsets from the start of the run, in order, below `duration`.
    pub fn offsets(&self, duration: Duration) -> impl Iterator<Item = Duration> + use<> {
        Offsets {
            mean_gap_s: 1.0 / self.rate,
            random: self.poisson_seed.map(SplitMix64),
            index: 0,
            elapsed_s: 0.0,
            duration_s: duration.as_secs_f64(),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.poisson_seed {
            None => write!(f, "{} calls/s at equal gaps", self.rate),
            Some(seed) => write!(f, "{} calls/s as a Poisson process (seed {seed})", self.rate),
        }
    }
}

struct Offsets {
    mean_gap_s: f64,
    random: Option<SplitMix64>,
    index: u64,
    elapsed_s: f64,
    duration_s: f64,
}

impl Iterator for Offsets {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = match &mut self.random {
            // Multiplied, not accumulated: a million gaps keep their rate exactly.
            None => self.index as f64 * self.mean_gap_s,
            Some(random) => {
                self.elapsed_s += -random.unit_open().ln() * self.mean_gap_s;
                self.elapsed_s
            }
        };
        self.index += 1;
        (at < self.duration_s).then(|| Duration::from_secs_f64(at))
    }
}

/// Steele, Lea and Flood's SplitMix64 (<https://doi.org/10.1145/2660193.2660195>): enough for spacing calls, and the
/// same on every machine.
struct SplitMix64(u64);

impl SplitMix64 {
    /// Uniform in (0, 1], so that its logarithm is finite.
    fn unit_open(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_gaps_hit_the_rate_exactly() {
        let offsets: Vec<_> = Arrivals::fixed(1000.0).offsets(Duration::from_secs(100)).collect();
        assert_eq!(offsets.len(), 100_000);
        assert_eq!(offsets[0], Duration::ZERO);
        let last = offsets[99_999].as_secs_f64();
        assert!((last - 99.999).abs() < 1e-9, "{last}");
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_spread_of_an_exponential() {
        let rate = 500.0;
        let offsets: Vec<_> = Arrivals::poisson(rate, 7).offsets(Duration::from_secs(200)).collect();
        assert!(offsets.is_sorted());
        let gaps: Vec<f64> = offsets.windows(2).map(|w| (w[1] - w[0]).as_secs_f64() * rate).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let of = |seed| Arrivals::poisson(50.0, seed).offsets(Duration::from_secs(2)).collect::<Vec<_>>();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
