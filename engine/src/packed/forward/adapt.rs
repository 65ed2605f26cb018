//! Adapters: rows with an adapter get s·B·(A·x) added to products whose input is x.
//!
//! A·x is a stage of its own before the product's, shared out by pieces: rows of one panel with one adapter. B follows
//! right after each column of the base, which is computed once for all rows.

use std::ops::Range;

use super::{Local, MAX_ROWS, Pass, Place, Row};
use crate::packed::activations::{BLOCK, Panels, QuantiseRow};
use crate::packed::isa::{LANES, Simd};
use crate::packed::lora::{AddProduct, MAX_RANK_BLOCKS, Small, Target};
use crate::packed::matmul::Outputs;
use crate::packed::number::Storable;
use crate::packed::workers::Worker;

/// Rows of one panel that have one adapter: a power of two.
pub(super) struct Piece {
    rows: Range<usize>,
    /// The panel that they are in.
    panel: Range<usize>,
    adapter: usize,
}

/// What of a pass has adapters.
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    /// The pieces of each panel.
    of_panel: Vec<Range<usize>>,
}

impl Pieces {
    /// Divides rows that are sorted by adapter.
    pub(super) fn of<S: Simd>(rows: &[Row]) -> Self {
        let panels = Panels::of::<S>(rows.len());
        let (mut pieces, mut of_panel) = (Vec::new(), Vec::new());
        for panel in (0..panels.count()).map(|index| panels.rows(index)) {
            let first = pieces.len();
            let mut start = panel.start;
            for run in rows[panel.clone()].chunk_by(|one, next| one.adapter == next.adapter) {
                let mut left = run.len();
                while let Some(width) = left.checked_ilog2().map(|bits| 1 << bits) {
                    if let Some(adapter) = run[0].adapter {
                        pieces.push(Piece { rows: start..start + width, panel: panel.clone(), adapter });
                    }
                    (start, left) = (start + width, left - width);
                }
            }
            of_panel.push(first..pieces.len());
        }
        Self { pieces, of_panel }
    }
}

impl<S: Simd, N: Storable> Pass<'_, S, N> {
    /// A·x for all rows with adapters of one of `targets`, whose common input is in the activations.
    pub(super) fn shrink(&self, worker: &Worker<'_>, local: &Local<S>, layer: usize, targets: &[Target]) {
        let adapters = self.batch.adapters;
        let adapted = |target: &Target| adapters.iter().any(|adapter| adapter.adapts(*target));
        if self.pieces.pieces.is_empty() || !targets.iter().any(adapted) {
            return;
        }
        let per_piece = targets.len() * self.rank_blocks;
        worker.stage(self.pieces.pieces.len() * per_piece, |unit| {
            let (piece, target) = (&self.pieces.pieces[unit / per_piece], targets[unit / self.rank_blocks % targets.len()]);
            let block = unit % self.rank_blocks;
            if let Some(matrix) = adapters[piece.adapter].shrink(layer, target)
                && block * 2 < matrix.columns()
            {
                self.shrink_block(local, piece, (matrix, target.slot()), block);
            }
        });
    }

    /// Thirty-two ranks of A·x for the rows of a piece, quantised.
    fn shrink_block(&self, local: &Local<S>, piece: &Piece, (matrix, slot): (Small<'_>, usize), block: usize) {
        let mut halves = [Outputs::default(), Outputs::default()];
        let count = piece.rows.len();
        let panel = self.panel(local, piece.panel.clone(), matrix.blocks());
        for (column, outputs) in (2 * block..matrix.columns()).zip(&mut halves) {
            let (scales, groups) = matrix.column(column);
            let rows = panel.rows_from(piece.rows.start - piece.panel.start);
            self.simd.run_panel(count, AddProduct { scales, groups, rows, outputs });
        }
        for (index, row) in piece.rows.clone().enumerate() {
            let mut values = [0.0; BLOCK];
            values[..LANES].copy_from_slice(&halves[0][index]);
            values[LANES..].copy_from_slice(&halves[1][index]);
            let place = (slot * MAX_ROWS + row) * MAX_RANK_BLOCKS + block;
            // SAFETY: this block of this slot of this row is the worker's share of the stage.
            let mut panel = unsafe { self.buffers.ranks.panel_mut(place..place + 1, 1) };
            self.simd.run(QuantiseRow { values: &values, panel: &mut panel, row: 0 });
        }
    }

    /// Asks for what `expand` will read, to be there when the base's product is computed.
    pub(super) fn prefetch(&self, (layer, target): Place, column: usize, panel: usize) {
        for piece in &self.pieces.pieces[self.pieces.of_panel[panel].clone()] {
            if let Some((matrix, _)) = self.batch.adapters[piece.adapter].expand(layer, target) {
                let (scales, groups) = matrix.column(column);
                scales.iter().for_each(|scales| self.simd.prefetch(scales));
                groups.iter().for_each(|group| self.simd.prefetch(group));
            }
        }
    }

    /// Adds B·(A·x) to the outputs of one column for the rows of one panel.
    pub(super) fn expand(
        &self,
        (layer, target): Place,
        column: usize,
        panel: usize,
        outputs: &mut Outputs,
    ) {
        for piece in &self.pieces.pieces[self.pieces.of_panel[panel].clone()] {
            let Some((matrix, slot)) = self.batch.adapters[piece.adapter].expand(layer, target) else {
                continue;
            };
            let (scales, groups) = matrix.column(column);
            let first = piece.rows.start - piece.panel.start;
            let places = slot * MAX_ROWS + piece.rows.start..slot * MAX_ROWS + piece.rows.end;
            // SAFETY: A·x was written in an earlier stage.
            let rows = unsafe { self.buffers.ranks.single_rows(places, MAX_RANK_BLOCKS) };
            let outputs = &mut outputs[first..];
            self.simd.run_panel(piece.rows.len(), AddProduct { scales, groups, rows, outputs });
        }
    }
}
