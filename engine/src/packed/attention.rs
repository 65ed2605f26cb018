//! Attention of a few query heads to one key head of their sequence.
//!
//! For each query: scores by fused multiply-adds over the head's values, ascending; their maximum; e^(score -
//! maximum) and its sum by blocks of 16 positions, ascending; the values' weighted sum by fused
//! multiply-adds, ascending in position; one division. Each query sees exactly the positions of its range,
//! so that its result does not depend on the queries that are computed with it.

use std::ops::Range;

use super::isa::{Kernel, LANES, Simd};
use super::kv::{HeadView, POSITIONS};
use super::math;
use super::number::Number;

/// Most queries that a kernel takes at once: what fits the registers.
pub(crate) const QUERIES: usize = 6;

/// One query head of one token.
#[derive(Debug, Clone)]
pub(crate) struct Query<'a> {
    /// Its values.
    pub(crate) values: &'a [f32],
    /// The positions that it attends to, at least one.
    pub(crate) positions: Range<usize>,
}

/// What scores go through before they become weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scores {
    /// Their factor.
    pub(crate) scale: f32,
    /// Their bound.
    pub(crate) cap: Option<f32>,
}

/// Computes the attention of up to `QUERIES` queries, each into its output. `scratch` is for their weights.
pub(crate) fn attend<S: Simd, N: Number>(
    simd: S,
    view: &HeadView<'_, N>,
    scores: Scores,
    queries: &[Query<'_>],
    scratch: &mut Vec<f32>,
    outputs: &mut [&mut [f32]],
) {
    macro_rules! run {
        ($count:literal) => {{
            let (Some(queries), Some(outputs)) = (queries.first_chunk(), outputs.first_chunk_mut()) else {
                unreachable!("as many as were counted");
            };
            simd.run(Attend::<N, $count> { view, scores, queries, scratch, outputs });
        }};
    }
    match queries.len() {
        1 => run!(1),
        2 => run!(2),
        3 => run!(3),
        4 => run!(4),
        5 => run!(5),
        6 => run!(6),
        count => unreachable!("from 1 to {QUERIES} queries are computed at once, not {count}"),
    }
}

struct Attend<'a, 'b, N: Number, const Q: usize> {
    view: &'a HeadView<'a, N>,
    scores: Scores,
    queries: &'a [Query<'a>; Q],
    scratch: &'a mut Vec<f32>,
    outputs: &'a mut [&'b mut [f32]; Q],
}

impl<S: Simd, N: Number, const Q: usize> Kernel<S> for Attend<'_, '_, N, Q> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let Self { view, scores, queries, scratch, outputs } = self;
        let mut union = queries[0].positions.clone();
        for query in &queries[1..] {
            union = union.start.min(query.positions.start)..union.end.max(query.positions.end);
        }
        let blocks = union.start / POSITIONS..union.end.div_ceil(POSITIONS);
        let length = blocks.len() * POSITIONS;
        if scratch.len() < Q * length {
            scratch.resize(Q * length, 0.0);
        }
        let mut rows = scratch.chunks_exact_mut(length);
        let mut weights: [&mut [f32]; Q] = std::array::from_fn(|_| rows.next().unwrap_or_default());

        raw_scores::<S, N, Q>(simd, view, blocks.clone(), queries, &mut weights);
        let mut inverses = [0.0; Q];
        for query in 0..Q {
            let positions = &queries[query].positions;
            let from = blocks.start * POSITIONS;
            let range = positions.start - from..positions.end - from;
            inverses[query] = 1.0 / soften(simd, scores, weights[query], range);
        }
        let weights = Weights { first: blocks.start, by_query: weights.map(|weights| &*weights) };
        for strip in 0..outputs[0].len() / LANES {
            let sums = weighted_sums::<S, N, Q>(simd, view, strip, queries, &weights);
            for query in 0..Q {
                let Some(output) = outputs[query].as_chunks_mut().0.get_mut(strip) else { continue };
                simd.store(simd.mul(sums[query], simd.splat(inverses[query])), output);
            }
        }
    }
}

/// q · k for all positions of the blocks.
#[inline(always)]
fn raw_scores<S: Simd, N: Number, const Q: usize>(
    simd: S,
    view: &HeadView<'_, N>,
    blocks: Range<usize>,
    queries: &[Query<'_>; Q],
    weights: &mut [&mut [f32]; Q],
) {
    for (index, block) in blocks.enumerate() {
        let (keys, _) = view.block(block);
        let mut values = [queries[0].values; Q];
        for query in 0..Q {
            values[query] = &queries[query].values[..keys.len()];
        }
        let mut sums = [simd.splat(0.0); Q];
        for (at, key) in keys.iter().enumerate() {
            let key = N::load(simd, key);
            for query in 0..Q {
                sums[query] = simd.fma(simd.splat(values[query][at]), key, sums[query]);
            }
        }
        for query in 0..Q {
            let Some(to) = weights[query].as_chunks_mut().0.get_mut(index) else { continue };
            simd.store(sums[query], to);
        }
    }
}

/// Turns the scores in `range` into weights and all others of its blocks into zeros; returns their sum.
#[inline(always)]
fn soften<S: Simd>(simd: S, scores: Scores, row: &mut [f32], range: Range<usize>) -> f32 {
    let first = range.start / LANES;
    let lanes = |block: usize| {
        let start = (first + block) * LANES;
        (range.start.saturating_sub(start), (range.end - start).min(LANES))
    };
    let blocks = &mut row.as_chunks_mut::<LANES>().0[first..range.end.div_ceil(LANES)];
    let least = simd.splat(f32::MIN);
    let mut largest = least;
    for (index, block) in blocks.iter_mut().enumerate() {
        let (from, to) = lanes(index);
        let mut score = simd.mul(simd.load(block), simd.splat(scores.scale));
        if let Some(cap) = scores.cap {
            score = math::soft_cap(simd, score, cap);
        }
        let score = simd.select(from, to, score, least);
        largest = simd.max(score, largest);
        simd.store(score, block);
    }
    let largest = simd.splat(simd.largest(largest));
    let mut sum = simd.splat(0.0);
    for (index, block) in blocks.iter_mut().enumerate() {
        let (from, to) = lanes(index);
        let weight = math::exp(simd, simd.sub(simd.load(block), largest));
        let weight = simd.select(from, to, weight, simd.splat(0.0));
        sum = simd.add(sum, weight);
        simd.store(weight, block);
    }
    simd.sum(sum)
}

/// The weights of all queries, from the position 16 · `first` on.
struct Weights<'a, const Q: usize> {
    first: usize,
    by_query: [&'a [f32]; Q],
}

/// The sums of 16 values, weighted, for each query over its own positions.
#[inline(always)]
fn weighted_sums<S: Simd, N: Number, const Q: usize>(
    simd: S,
    view: &HeadView<'_, N>,
    strip: usize,
    queries: &[Query<'_>; Q],
    weights: &Weights<'_, Q>,
) -> [S::F32; Q] {
    let mut common = queries[0].positions.clone();
    for query in &queries[1..] {
        common = common.start.max(query.positions.start)..common.end.min(query.positions.end);
    }
    common.end = common.end.max(common.start);
    let mut sums = [simd.splat(0.0); Q];
    for query in 0..Q {
        let positions = &queries[query].positions;
        let before = positions.start..common.start.min(positions.end);
        let alone = Weights { first: weights.first, by_query: [weights.by_query[query]] };
        [sums[query]] = add_weighted(simd, view, strip, before, &alone, [sums[query]]);
    }
    sums = add_weighted(simd, view, strip, common.clone(), weights, sums);
    for query in 0..Q {
        let positions = &queries[query].positions;
        let after = common.end.max(positions.start)..positions.end;
        let alone = Weights { first: weights.first, by_query: [weights.by_query[query]] };
        [sums[query]] = add_weighted(simd, view, strip, after, &alone, [sums[query]]);
    }
    sums
}

/// Adds the weighted values of some positions.
#[inline(always)]
fn add_weighted<S: Simd, N: Number, const Q: usize>(
    simd: S,
    view: &HeadView<'_, N>,
    strip: usize,
    positions: Range<usize>,
    weights: &Weights<'_, Q>,
    mut sums: [S::F32; Q],
) -> [S::F32; Q] {
    if positions.is_empty() {
        return sums;
    }
    for block in positions.start / POSITIONS..positions.end.div_ceil(POSITIONS) {
        let (_, values) = view.block(block);
        let start = block * POSITIONS;
        let lanes = positions.start.saturating_sub(start)..(positions.end - start).min(POSITIONS);
        let values = &values[strip * POSITIONS..][..POSITIONS][lanes.clone()];
        let from = start - weights.first * POSITIONS + lanes.start;
        let mut own = [&weights.by_query[0][..0]; Q];
        for (own, all) in own.iter_mut().zip(&weights.by_query) {
            *own = &all[from..][..values.len()];
        }
        for (at, value) in values.iter().enumerate() {
            let value = N::load(simd, value);
            for query in 0..Q {
                sums[query] = simd.fma(simd.splat(own[query][at]), value, sums[query]);
            }
        }
    }
    sums
}
