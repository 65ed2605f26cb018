//! The forward pass: a few hundred rows, each one token of some sequence, through all layers at once.
//!
//! Every worker runs the whole pass; the stages of a layer are
//!
//! 1. norm and quantisation of rows, 2. queries, keys and values, 3. rotation, the cache, attention,
//! 4. quantisation, 5. output, 6. norm and quantisation, 7. gate and up, 8. quantisation, 9. down.
//!
//! If rows have adapters, what these need of the inputs of 2, 5, 7 and 9 is a stage of its own before each.
//!
//! Products are shared out by columns of 16 outputs, the rest by rows. With few rows every worker does the
//! stages 1, 4, 6 and 8 for itself: then there are only five barriers in a layer. Who does what changes
//! nothing in the results.
#![expect(unsafe_code, reason = "the workers share the buffers, each stage as described")]

mod adapt;
mod attend;
mod buffers;
mod feed;
mod kernels;

use std::ops::Range;

use super::activations::{Activations, PanelMut, PanelRef, Panels, QuantiseRow};
use super::attention::QUERIES;
use super::isa::{LANES, Simd};
use super::kv::{POSITIONS, Store};
use super::lora::{AdapterWeights, Target};
use super::matmul::{Outputs, product};
use super::model::{Layer, Model, Projection};
use super::number::Storable;
use super::shared::Shared;
use super::weights::Matrix;
use super::workers::Worker;
use adapt::{Added, Piece, pieces};
use buffers::PRIVATE_ROWS;
pub(crate) use buffers::{Buffers, Local, MAX_ROWS};
use kernels::{Normalise, SoftCap};

/// One token of one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The token.
    pub(crate) token: u32,
    /// Index of the sequence's block table.
    pub(crate) sequence: usize,
    /// Its position in the sequence.
    pub(crate) position: usize,
    /// Index of the sequence's adapter.
    pub(crate) adapter: Option<usize>,
}

/// The rows of a pass: up to `MAX_ROWS`, those of an adapter together, of those the rows of a sequence together and
/// ascending.
pub(crate) struct Batch<'a> {
    /// The rows.
    pub(crate) rows: &'a [Row],
    /// Blocks of each sequence.
    pub(crate) tables: &'a [&'a [u32]],
    /// The adapters.
    pub(crate) adapters: &'a [&'a AdapterWeights],
    /// Rows whose logits are wanted.
    pub(crate) chosen: &'a [usize],
    /// Where those go: rows of logits, each padded to a multiple of 16.
    pub(crate) logits: &'a Shared<f32>,
    /// Which row of logits is that of each chosen row; no two are the same.
    pub(crate) places: &'a [usize],
}

/// A pass over a batch.
pub(crate) struct Pass<'a, S: Simd, N: Storable> {
    simd: S,
    model: &'a Model,
    buffers: &'a Buffers<S>,
    store: &'a Store<N>,
    batch: &'a Batch<'a>,
    /// Runs of rows that attend together.
    spans: Vec<Range<usize>>,
    /// Runs of rows whose positions are in one block of the cache.
    pages: Vec<Range<usize>>,
    /// No sequence has two spans: then nobody else writes the cache that a span reads.
    separate: bool,
    /// Workers prepare rows for themselves.
    private: bool,
    /// Runs of rows with an adapter.
    pieces: Vec<Piece>,
    /// Blocks of 32 in the largest rank of all adapters.
    rank_blocks: usize,
    all_rows: Vec<usize>,
}

/// A product of a layer.
type Place = (usize, Target);

/// Where the next values of the residual stream come from.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// The tokens' embeddings.
    Tokens,
    /// The branch is added, normalised if there are factors.
    Branch(Option<&'a [f32]>),
}

impl<'a, S: Simd, N: Storable> Pass<'a, S, N> {
    /// Prepares a pass. While it runs, nobody else may use the buffers, the store or the batch's logits.
    pub(crate) fn new(
        simd: S,
        model: &'a Model,
        buffers: &'a Buffers<S>,
        store: &'a Store<N>,
        batch: &'a Batch<'a>,
    ) -> Self {
        let longest = rows_per_span(model.architecture.group());
        let spans = runs(batch.rows, |first, row| row.position - first.position < longest);
        let pages = runs(batch.rows, |first, row| row.position / POSITIONS == first.position / POSITIONS);
        let sequences = batch.rows.chunk_by(|one, next| one.sequence == next.sequence).count();
        Self {
            separate: spans.len() == sequences,
            private: batch.rows.len() <= PRIVATE_ROWS,
            pieces: pieces::<S>(batch.rows),
            rank_blocks: batch.adapters.iter().map(|adapter| adapter.rank_blocks()).max().unwrap_or(0),
            all_rows: (0..batch.rows.len()).collect(),
            simd,
            model,
            buffers,
            store,
            batch,
            spans,
            pages,
        }
    }

    /// One worker's part of the pass. All workers must run it.
    pub(crate) fn run(&self, worker: &Worker<'_>) {
        // SAFETY: each worker has its own.
        let local = unsafe { &mut self.buffers.locals.get_mut(worker.index..worker.index + 1)[0] };
        let mut input = Input::Tokens;
        for (index, layer) in self.model.layers.iter().enumerate() {
            self.advance(worker, local, input, &self.all_rows, &layer.attention_norm);
            self.project(worker, local, index, layer);
            self.attention(worker, local, index, layer);
            self.quantise(worker, local, &self.buffers.attended, &layer.output.matrix);
            self.branch(worker, local, (index, Target::Output), &layer.output);
            let input_of_feed = Input::Branch(layer.attention_post_norm.as_deref());
            self.advance(worker, local, input_of_feed, &self.all_rows, &layer.feed_norm);
            self.feed(worker, local, index, layer);
            self.quantise(worker, local, &self.buffers.hidden, &layer.down.matrix);
            self.branch(worker, local, (index, Target::Down), &layer.down);
            input = Input::Branch(layer.feed_post_norm.as_deref());
        }
        if !self.batch.chosen.is_empty() {
            self.advance(worker, local, input, self.batch.chosen, &self.model.norm);
            self.logits(worker, local);
        }
    }

    /// Does `work` for each of `panels`: shared out, or each worker all of it.
    fn by_panels(&self, worker: &Worker<'_>, panels: Panels, mut work: impl FnMut(Range<usize>)) {
        if self.private {
            (0..panels.count()).for_each(|index| work(panels.rows(index)));
        } else {
            worker.stage(panels.count(), |index| work(panels.rows(index)));
        }
    }

    /// Room for a panel of inputs.
    ///
    /// # Safety
    /// As for [`Activations::panel_mut`].
    unsafe fn panel_mut<'b>(
        &self,
        activations: &'b Activations<S>,
        rows: Range<usize>,
        blocks: usize,
    ) -> PanelMut<'b, S> {
        // SAFETY: handed on to the caller.
        let panel = unsafe { activations.panel_mut(rows, blocks) };
        if self.buffers.wide || !self.batch.adapters.is_empty() { panel } else { panel.without_wide() }
    }

    /// Brings `rows` of the residual stream up to date and makes them, normalised, the inputs of the next
    /// products.
    fn advance(
        &self,
        worker: &Worker<'_>,
        local: &mut Local<S>,
        input: Input<'_>,
        rows: &[usize],
        gain: &[f32],
    ) {
        let (width, epsilon) = (self.model.architecture.width, self.model.architecture.epsilon);
        let Local { stream: own_stream, activations: own_activations, row: normed, .. } = local;
        let normed = &mut normed[..width];
        let activations = if self.private { &*own_activations } else { &self.buffers.activations };
        self.by_panels(worker, Panels::of::<S>(rows.len()), |panel_rows| {
            // SAFETY: the activations are this worker's own, or the panel is its share of the stage; they
            // are read in later stages only.
            let mut panel = unsafe { self.panel_mut(activations, panel_rows.clone(), width / 32) };
            for index in panel_rows.clone() {
                let values = rows[index] * width..(rows[index] + 1) * width;
                let stream = if self.private {
                    &mut own_stream[values.clone()]
                } else {
                    // SAFETY: only the worker that has the row as its share touches it in this stage.
                    unsafe { self.buffers.stream.get_mut(values.clone()) }
                };
                self.update(stream, input, rows[index], normed);
                normed.copy_from_slice(stream);
                self.simd.run(Normalise { values: normed, gain, epsilon });
                let row = index - panel_rows.start;
                self.simd.run(QuantiseRow { values: normed, panel: &mut panel, row });
            }
        });
    }

    fn update(&self, stream: &mut [f32], input: Input<'_>, row: usize, scratch: &mut [f32]) {
        let Input::Branch(gain) = input else {
            self.model.embedding.unpack(self.batch.rows[row].token as usize, stream);
            let scale = self.model.architecture.embedding_scale;
            stream.iter_mut().for_each(|value| *value *= scale);
            return;
        };
        // SAFETY: the branch was written in an earlier stage and will not be in this.
        let branch = unsafe { self.buffers.branch.get(row * stream.len()..(row + 1) * stream.len()) };
        scratch.copy_from_slice(branch);
        if let Some(gain) = gain {
            let epsilon = self.model.architecture.epsilon;
            self.simd.run(Normalise { values: scratch, gain, epsilon });
        }
        stream.iter_mut().zip(scratch).for_each(|(value, more)| *value += *more);
    }

    /// Makes rows of `source` the inputs of the next product, with `matrix`.
    fn quantise(&self, worker: &Worker<'_>, local: &Local<S>, source: &Shared<f32>, matrix: &Matrix) {
        let (blocks, width) = (matrix.blocks(), matrix.blocks() * 32);
        let activations = if self.private { &local.activations } else { &self.buffers.activations };
        self.by_panels(worker, Panels::of::<S>(self.batch.rows.len()), |rows| {
            // SAFETY: as in `advance`; the source was written in an earlier stage.
            let (mut panel, values) = unsafe {
                (
                    self.panel_mut(activations, rows.clone(), blocks),
                    source.get(rows.start * width..rows.end * width),
                )
            };
            for (row, values) in values.chunks_exact(width).enumerate() {
                self.simd.run(QuantiseRow { values, panel: &mut panel, row });
            }
        });
    }

    /// A panel of the inputs.
    fn panel<'b>(&'b self, local: &'b Local<S>, rows: Range<usize>, blocks: usize) -> PanelRef<'b, S> {
        let activations = if self.private { &local.activations } else { &self.buffers.activations };
        // SAFETY: activations are written in stages of their own, never in one that reads them.
        unsafe { activations.panel(rows, blocks) }
    }

    /// One column of products with `rows` rows; `write` gets each panel's rows and their 16 outputs.
    fn column(
        &self,
        local: &Local<S>,
        rows: usize,
        (matrix, column, added): (&Matrix, usize, &Added<'_>),
        mut write: impl FnMut(Range<usize>, &mut Outputs),
    ) {
        let panels = Panels::of::<S>(rows);
        let mut outputs = Outputs::default();
        for rows in (0..panels.count()).map(|index| panels.rows(index)) {
            self.prefetch(added, column, &rows);
            let panel = self.panel(local, rows.clone(), matrix.blocks());
            product(self.simd, matrix, column, &panel, &mut outputs);
            write(rows, &mut outputs);
        }
    }

    /// Writes a run of columns of products, with their bias and what adapters add, into `target`, from `offset` on in rows
    /// of `stride`.
    fn store_columns(
        &self,
        local: &Local<S>,
        (matrix, bias, added): (&Matrix, Option<&[f32]>, &Added<'_>),
        columns: Range<usize>,
        target: &Shared<f32>,
        (offset, stride): (usize, usize),
    ) {
        for column in columns.clone() {
            let bias = bias.map(|bias| &bias[column * LANES..][..LANES]);
            self.column(local, self.batch.rows.len(), (matrix, column, added), |rows, outputs| {
                for (row, values) in rows.zip(outputs) {
                    if let Some(bias) = bias {
                        values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
                    }
                    let start = row * stride + offset + column * LANES;
                    // SAFETY: the column is this worker's share of the stage; it is read in later stages only.
                    unsafe { target.get_mut(start..start + LANES) }.copy_from_slice(values);
                }
            });
        }
        self.expand(added, &columns, target, (offset, stride));
    }

    fn project(&self, worker: &Worker<'_>, local: &Local<S>, index: usize, layer: &Layer) {
        let targets = [Target::Query, Target::Key, Target::Value];
        self.shrink(worker, local, index, &targets);
        let stride = layer.projections.iter().map(|one| one.matrix.columns()).sum::<usize>();
        let added = targets.map(|target| self.added((index, target)));
        worker.stage_runs(stride, |run| {
            let mut first = 0;
            for (Projection { matrix, bias }, added) in layer.projections.iter().zip(&added) {
                let end = first + matrix.columns();
                let own = run.start.clamp(first, end) - first..run.end.clamp(first, end) - first;
                let (part, place) = ((matrix, bias.as_deref(), added), (first * LANES, stride * LANES));
                self.store_columns(local, part, own, &self.buffers.projected, place);
                first = end;
            }
        });
    }

    fn branch(&self, worker: &Worker<'_>, local: &Local<S>, place: Place, projection: &Projection) {
        self.shrink(worker, local, place.0, &[place.1]);
        let (width, added) = (self.model.architecture.width, self.added(place));
        let part = (&projection.matrix, projection.bias.as_deref(), &added);
        worker.stage_runs(projection.matrix.columns(), |run| {
            self.store_columns(local, part, run, &self.buffers.branch, (0, width));
        });
    }

    fn logits(&self, worker: &Worker<'_>, local: &Local<S>) {
        let (head, cap) = (self.model.head(), self.model.architecture.logit_cap);
        let stride = head.columns() * LANES;
        worker.stage(head.columns(), |column| {
            self.column(local, self.batch.chosen.len(), (head, column, &Added::NOTHING), |rows, outputs| {
                if let Some(cap) = cap {
                    self.simd.run(SoftCap { values: &mut outputs[..rows.len()], cap });
                }
                for (row, values) in rows.zip(outputs) {
                    let start = self.batch.places[row] * stride + column * LANES;
                    // SAFETY: the column is this worker's share of the stage; it is read after the pass only.
                    unsafe { self.batch.logits.get_mut(start..start + LANES) }.copy_from_slice(values);
                }
            });
        });
    }
}

/// As many rows as it takes for their queries to fill kernels, few so that there are many spans.
fn rows_per_span(group: usize) -> usize {
    (1..QUERIES).find(|rows| (rows * group).is_multiple_of(QUERIES)).unwrap_or(QUERIES)
}

/// Cuts rows into runs of one sequence, of rows that go with the run's first.
fn runs(rows: &[Row], together: impl Fn(&Row, &Row) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if rows[run.start].sequence == row.sequence && together(&rows[run.start], row) => {
                run.end += 1;
            }
            _ => runs.push(index..index + 1),
        }
    }
    runs
}
