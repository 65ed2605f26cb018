//! Rotation, the cache and attention.

use std::ops::Range;

use super::kernels::{Normalise, Remember};
use super::{Local, Pass, Row};
use crate::packed::attention::{QUERIES, Query, Scores, attend};
use crate::packed::isa::Simd;
use crate::packed::kv::POSITIONS;
use crate::packed::model::Layer;
use crate::packed::number::Storable;
use crate::packed::workers::Worker;

impl<S: Simd, N: Storable> Pass<'_, S, N> {
    /// Keys and values into the cache, then attention.
    pub(super) fn attention(&self, worker: &Worker<'_>, local: &mut Local<S>, index: usize, layer: &Layer) {
        let heads = self.model.architecture.kv_heads;
        let scratch = &mut local.scratch;
        if self.separate {
            worker.stage(self.spans.len() * heads, |unit| {
                let (span, head) = (&self.spans[unit / heads], unit % heads);
                span.clone().for_each(|row| self.remember(row, head, index, layer));
                self.attend(span, head, index, layer, scratch);
            });
        } else {
            worker.stage(self.pages.len() * heads, |unit| {
                let (page, head) = (&self.pages[unit / heads], unit % heads);
                page.clone().for_each(|row| self.remember(row, head, index, layer));
            });
            worker.stage(self.spans.len() * heads, |unit| {
                self.attend(&self.spans[unit / heads], unit % heads, index, layer, scratch);
            });
        }
    }

    /// Normalises and rotates the queries and the key of one key head, and puts key and value into the cache.
    fn remember(&self, row: usize, head: usize, index: usize, layer: &Layer) {
        let architecture = &self.model.architecture;
        let (width, queries) = (architecture.head_width, architecture.query_width());
        let start = row * (queries + 2 * architecture.kv_width());
        let Row { sequence, position, .. } = self.batch.rows[row];
        let part = |from: usize, count: usize| {
            let from = start + from;
            // SAFETY: row and head are this worker's share of the stage, and the parts are disjoint.
            unsafe { self.buffers.projected.get_mut(from..from + count * width) }
        };
        let group = architecture.group();
        let own_queries = part(head * group * width, group);
        let key = part(queries + head * width, 1);
        let value = part(queries + architecture.kv_width() + head * width, 1);
        let angles = &self.model.angles[layer.kind.rotation];
        let turn = |values: &mut [f32], gain: Option<&[f32]>| {
            if let Some(gain) = gain {
                self.simd.run(Normalise { values, gain, epsilon: architecture.epsilon });
            }
            angles.rotate(values, position);
        };
        own_queries.chunks_exact_mut(width).for_each(|query| turn(query, layer.query_norm.as_deref()));
        turn(key, layer.key_norm.as_deref());
        let block = self.batch.tables[sequence][position / POSITIONS];
        // SAFETY: this head of all the rows of the block is this worker's share of the stage, and no block is
        // written for two sequences.
        let block = unsafe { self.store.head_mut(index, block, head) };
        self.simd.run(Remember::<N> { key, value, block, position: position % POSITIONS });
    }

    /// Attention of the query heads of one key head, for a span of rows of one sequence.
    fn attend(&self, span: &Range<usize>, head: usize, index: usize, layer: &Layer, scratch: &mut Vec<f32>) {
        let architecture = &self.model.architecture;
        let (width, queries, group) =
            (architecture.head_width, architecture.query_width(), architecture.group());
        let stride = queries + 2 * architecture.kv_width();
        let scores = Scores { scale: architecture.attention_scale, cap: architecture.attention_cap };
        let table = self.batch.tables[self.batch.rows[span.start].sequence];
        // SAFETY: the cache was written in an earlier stage, or by this worker just now.
        let view = unsafe { self.store.head(index, head, table) };
        let heads: Vec<(usize, usize)> =
            span.clone().flat_map(|row| (0..group).map(move |query| (row, head * group + query))).collect();
        for heads in heads.chunks(QUERIES) {
            let (mut own, mut outputs) = (Vec::with_capacity(QUERIES), Vec::with_capacity(QUERIES));
            for (row, query) in heads {
                let end = self.batch.rows[*row].position + 1;
                let from = row * stride + query * width;
                // SAFETY: the queries were written in an earlier stage, or by this worker just now.
                let values = unsafe { self.buffers.projected.get(from..from + width) };
                let start = layer.kind.window.map_or(0, |window| end.saturating_sub(window));
                own.push(Query { values, positions: start..end });
                let from = row * queries + query * width;
                // SAFETY: this row and head are this worker's share of the stage.
                outputs.push(unsafe { self.buffers.attended.get_mut(from..from + width) });
            }
            attend(self.simd, &view, scores, &own, scratch, &mut outputs);
        }
    }
}
