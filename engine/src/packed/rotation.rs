//! Rotary position embeddings: pairs of values of a head are rotated by angles that grow with the position.
//!
//! Su et al., "RoFormer", <https://arxiv.org/abs/2104.09864>.

/// Which values of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// 2i and 2i + 1.
    Adjacent,
    /// i and i + half.
    Halves,
}

/// The angles: position / (base^(2i / rotated) · factor) for pair i.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rotation {
    /// Which values are pairs.
    pub(crate) pairs: Pairs,
    /// How many values of a head are rotated, from the first; even.
    pub(crate) rotated: usize,
    /// The base of the frequencies.
    pub(crate) base: f32,
    /// By how much positions are compressed.
    pub(crate) factor: f32,
}

/// Cosines and sines by position, as far as they have been needed.
pub(crate) struct Angles {
    rotation: Rotation,
    /// Angle per position, for each pair.
    frequencies: Vec<f64>,
    /// Per position: all cosines, then all sines.
    table: Vec<f32>,
}

impl Angles {
    /// The angles of a rotation. `divisors` stretch the single frequencies, where a file gives them.
    pub(crate) fn new(rotation: Rotation, divisors: Option<&[f32]>) -> Self {
        let frequency = |pair: usize| {
            let exponent = -2.0 * pair as f64 / rotation.rotated as f64;
            let divisor = divisors.and_then(|divisors| divisors.get(pair)).map_or(1.0, |one| f64::from(*one));
            libm::pow(f64::from(rotation.base), exponent) / (f64::from(rotation.factor) * divisor)
        };
        let frequencies = (0..rotation.rotated / 2).map(frequency).collect();
        Self { rotation, frequencies, table: Vec::new() }
    }

    /// Makes sure that the first `positions` positions are there. Computed in f64 by one library on every
    /// processor, and rounded once.
    pub(crate) fn extend_to(&mut self, positions: usize) {
        for position in self.table.len() / self.rotation.rotated..positions {
            let angles = || self.frequencies.iter().map(|frequency| position as f64 * frequency);
            self.table.extend(angles().map(|angle| libm::cos(angle) as f32));
            let sines: Vec<f32> = angles().map(|angle| libm::sin(angle) as f32).collect();
            self.table.extend(sines);
        }
    }

    /// Rotates one head of the token at `position`, which `extend_to` has covered.
    pub(crate) fn rotate(&self, head: &mut [f32], position: usize) {
        let rotated = self.rotation.rotated;
        let (cosines, sines) = self.table[position * rotated..][..rotated].split_at(rotated / 2);
        let angles = cosines.iter().zip(sines);
        let turn = |x: f32, y: f32, cosine: f32, sine: f32| (x * cosine - y * sine, x * sine + y * cosine);
        match self.rotation.pairs {
            Pairs::Adjacent => {
                for ([x, y], (cosine, sine)) in head[..rotated].as_chunks_mut().0.iter_mut().zip(angles) {
                    (*x, *y) = turn(*x, *y, *cosine, *sine);
                }
            }
            Pairs::Halves => {
                let (low, high) = head[..rotated].split_at_mut(rotated / 2);
                for ((x, y), (cosine, sine)) in low.iter_mut().zip(high).zip(angles) {
                    (*x, *y) = turn(*x, *y, *cosine, *sine);
                }
            }
        }
    }
}
