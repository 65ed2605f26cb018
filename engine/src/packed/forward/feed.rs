//! The first half of the feed-forward part.

use std::ops::Range;

use super::adapt::Added;
use super::kernels::Gate;
use super::{Local, Pass};
use crate::packed::activations::Panels;
use crate::packed::isa::{LANES, Simd};
use crate::packed::lora::Target;
use crate::packed::matmul::{Outputs, product};
use crate::packed::model::Layer;
use crate::packed::number::Storable;
use crate::packed::workers::Worker;

impl<S: Simd, N: Storable> Pass<'_, S, N> {
    /// Gate times up, with what adapters add to either.
    pub(super) fn feed(&self, worker: &Worker<'_>, local: &Local<S>, index: usize, layer: &Layer) {
        self.shrink(worker, local, index, &[Target::Gate, Target::Up]);
        let added = [Target::Gate, Target::Up].map(|target| self.added((index, target)));
        let adapted = !added.iter().all(Added::is_nothing);
        worker.stage_runs(layer.gate.columns(), |run| {
            if adapted {
                self.feed_adapted(local, layer, &added, run);
            } else {
                run.for_each(|column| self.feed_column(local, layer, column));
            }
        });
    }

    fn feed_column(&self, local: &Local<S>, layer: &Layer, column: usize) {
        let (width, activation) = (self.model.architecture.hidden, self.model.architecture.activation);
        let panels = Panels::of::<S>(self.batch.rows.len());
        let (mut gates, mut ups) = (Outputs::default(), Outputs::default());
        for rows in (0..panels.count()).map(|index| panels.rows(index)) {
            let panel = self.panel(local, rows.clone(), layer.gate.blocks());
            product(self.simd, &layer.gate, column, &panel, &mut gates);
            product(self.simd, &layer.up, column, &panel, &mut ups);
            let count = rows.len();
            self.simd.run(Gate { gates: &mut gates[..count], ups: &ups[..count], activation });
            for (row, values) in rows.zip(&gates) {
                let start = row * width + column * LANES;
                // SAFETY: the column is this worker's share of the stage; it is read in later ones.
                unsafe { self.buffers.hidden.get_mut(start..start + LANES) }.copy_from_slice(values);
            }
        }
    }

    /// A run of columns in three goes: gates and ups are complete only when adapters have added to them.
    fn feed_adapted(&self, local: &Local<S>, layer: &Layer, added: &[Added<'_>; 2], run: Range<usize>) {
        let (width, activation) = (self.model.architecture.hidden, self.model.architecture.activation);
        let (hidden, ups) = (&self.buffers.hidden, &self.buffers.ups);
        self.store_columns(local, (&layer.gate, None, &added[0]), run.clone(), hidden, (0, width));
        self.store_columns(local, (&layer.up, None, &added[1]), run.clone(), ups, (0, width));
        for row in 0..self.batch.rows.len() {
            let columns = row * width + run.start * LANES..row * width + run.end * LANES;
            // SAFETY: the columns are this worker's share of the stage; they are read in later ones.
            let (gates, ups) = unsafe { (hidden.get_mut(columns.clone()), ups.get(columns)) };
            let (gates, ups) = (gates.as_chunks_mut().0, ups.as_chunks().0);
            self.simd.run(Gate { gates, ups, activation });
        }
    }
}
