//! What the processor gives at most, to compare with what was reached.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::isa::{Dispatch, Isa, Kernel, Simd};
use crate::EngineError;

/// How long one measurement takes.
const TIME: Duration = Duration::from_millis(200);

/// Reads from memory, in 10^9 bytes per second, by so many threads at once: the bound of decoding, for every
/// token reads all weights.
pub fn read_gb_s(threads: usize) -> f64 {
    // Beyond any cache.
    let words = vec![1_u64; (1 << 29) / 8 / threads.max(1)];
    let bytes = size_of_val(&words[..]) as f64;
    let sums = |words: &[u64]| words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
    at_once(
        threads,
        || words.clone(),
        |words| {
            black_box(sums(black_box(words)));
            bytes
        },
    )
}

/// Products and sums of eight-bit integers, in 10^9 per second (a multiply-add counts twice), by so many
/// threads at once: the bound of prefill.
///
/// # Errors
/// If this processor does not have the instruction set.
pub fn int8_gops(isa: Isa, threads: usize) -> Result<f64, EngineError> {
    isa.dispatch(Peak { threads })
}

/// The sum of what all threads reach, in 10^9 per second; `work` returns how much it has done.
fn at_once<T>(threads: usize, prepare: impl Fn() -> T + Sync, work: impl Fn(&T) -> f64 + Sync) -> f64 {
    let barrier = std::sync::Barrier::new(threads);
    let one = || {
        let data = prepare();
        barrier.wait();
        let (start, mut done) = (Instant::now(), 0.0);
        while start.elapsed() < TIME {
            done += work(&data);
        }
        done / start.elapsed().as_secs_f64() / 1e9
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

struct Peak {
    threads: usize,
}

impl Dispatch for Peak {
    type Output = f64;

    fn call<S: Simd>(self, simd: S) -> f64 {
        at_once(self.threads, || (), |()| simd.run(Dots { rounds: black_box(100_000) }))
    }
}

struct Dots {
    rounds: i32,
}

impl<S: Simd> Kernel<S> for Dots {
    type Output = f64;

    #[inline(always)]
    fn run(self, simd: S) -> f64 {
        let (weights, x) = (black_box([[3; 64]; 4]), black_box([1, 2, 3, 4, 5, 6]));
        let mut sums = [simd.no_products(); 6];
        for round in 0..self.rounds {
            let weights = simd.load_bytes(&weights[round as usize % 4]);
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = simd.dot(*sum, weights, x);
            }
        }
        let mut all = simd.splat_i32(0);
        for sum in sums {
            all = simd.add_i32(all, simd.total(sum));
        }
        black_box(simd.sum_i32(all));
        f64::from(self.rounds) * sums.len() as f64 * 64.0 * 2.0
    }
}
