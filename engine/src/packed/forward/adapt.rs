//! Adapters: rows with an adapter get s·B·(A·x) added to products whose input is x.
//!
//! A·x is a stage of its own before the product's, shared out by pieces: rows of one panel with one adapter. B follows
//! where a worker has computed a run of the base's columns, once for all rows; it asks the memory for B before each of
//! them, so that B is there by then.

use std::ops::Range;

use super::{Local, MAX_ROWS, Pass, Place, Row};
use crate::packed::activations::{BLOCK, Panels, QuantiseRow};
use crate::packed::isa::{LANES, Simd};
use crate::packed::lora::{AddProduct, MAX_RANK_BLOCKS, Small, Target};
use crate::packed::number::Storable;
use crate::packed::shared::Shared;
use crate::packed::workers::Worker;

/// Most rows of a panel on any instruction set.
const MAX_PANEL: usize = 8;

/// Rows of one panel that have one adapter: a power of two.
pub(super) struct Piece {
    rows: Range<usize>,
    /// The panel that they are in.
    panel: Range<usize>,
    adapter: usize,
}

/// The pieces of rows that are sorted by adapter.
pub(super) fn pieces<S: Simd>(rows: &[Row]) -> Vec<Piece> {
    let panels = Panels::of::<S>(rows.len());
    let mut pieces = Vec::new();
    for panel in (0..panels.count()).map(|index| panels.rows(index)) {
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
    }
    pieces
}

/// What adapters add to one product.
pub(super) struct Added<'a>(Vec<Part<'a>>);

struct Part<'a> {
    piece: &'a Piece,
    matrix: Small<'a>,
    slot: usize,
}

impl Added<'_> {
    /// Nothing.
    pub(super) const NOTHING: Self = Self(Vec::new());

    /// True if no row gets anything.
    pub(super) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Simd, N: Storable> Pass<'_, S, N> {
    /// A·x for all rows with adapters of one of `targets`, whose common input is in the activations.
    pub(super) fn shrink(&self, worker: &Worker<'_>, local: &Local<S>, layer: usize, targets: &[Target]) {
        let adapters = self.batch.adapters;
        let adapted = |target: &Target| adapters.iter().any(|adapter| adapter.adapts(*target));
        if self.pieces.is_empty() || !targets.iter().any(adapted) {
            return;
        }
        let per_piece = targets.len() * self.rank_blocks;
        worker.stage(self.pieces.len() * per_piece, |unit| {
            let (piece, target) =
                (&self.pieces[unit / per_piece], targets[unit / self.rank_blocks % targets.len()]);
            let block = unit % self.rank_blocks;
            if let Some(matrix) = adapters[piece.adapter].shrink(layer, target)
                && block * 2 < matrix.columns()
            {
                self.shrink_block(local, piece, (matrix, target.slot()), block);
            }
        });
    }

    /// Thirty-two ranks of A·x for the rows of a piece, quantised.
    fn shrink_block(
        &self,
        local: &Local<S>,
        piece: &Piece,
        (matrix, slot): (Small<'_>, usize),
        block: usize,
    ) {
        let columns = 2 * block..matrix.columns().min(2 * block + 2);
        let mut values = [[[0.0; LANES]; BLOCK / LANES]; MAX_PANEL];
        let mut outputs = values.each_mut().map(|values| &mut values[..columns.len()]);
        let panel = self.panel(local, piece.panel.clone(), matrix.blocks());
        let rows = panel.rows_from(piece.rows.start - piece.panel.start);
        let columns = matrix.columns_in(columns);
        self.simd.run_panel(piece.rows.len(), AddProduct { columns, rows, outputs: &mut outputs });
        for (row, values) in piece.rows.clone().zip(&values) {
            let place = (slot * MAX_ROWS + row) * MAX_RANK_BLOCKS + block;
            // SAFETY: this block of this slot of this row is the worker's share of the stage.
            let mut panel = unsafe { self.buffers.ranks.panel_mut(place..place + 1, 1) };
            self.simd.run(QuantiseRow { values: values.as_flattened(), panel: &mut panel, row: 0 });
        }
    }

    /// What adapters add to one product.
    pub(super) fn added(&self, (layer, target): Place) -> Added<'_> {
        let parts = self.pieces.iter().filter_map(|piece| {
            let (matrix, slot) = self.batch.adapters[piece.adapter].expand(layer, target)?;
            Some(Part { piece, matrix, slot })
        });
        Added(parts.collect())
    }

    /// Asks for what `expand` will read of one column for the rows of one panel, to be there when the base's product is
    /// computed.
    pub(super) fn prefetch(&self, added: &Added<'_>, column: usize, panel: &Range<usize>) {
        for part in added.0.iter().filter(|part| part.piece.panel.start == panel.start) {
            for column in part.matrix.columns_in(column..column + 1) {
                column.scales.iter().for_each(|scales| self.simd.prefetch(scales));
                column.groups.iter().for_each(|group| self.simd.prefetch(group));
            }
        }
    }

    /// Adds B·(A·x) to the outputs in `columns`, which are in `target` from `offset` on in rows of `stride`.
    pub(super) fn expand(
        &self,
        added: &Added<'_>,
        columns: &Range<usize>,
        target: &Shared<f32>,
        (offset, stride): (usize, usize),
    ) {
        for Part { piece, matrix, slot } in &added.0 {
            let first = slot * MAX_ROWS;
            let places = first + piece.rows.start..first + piece.rows.end;
            // SAFETY: A·x was written in an earlier stage.
            let rows = unsafe { self.buffers.ranks.single_rows(places, MAX_RANK_BLOCKS) };
            let mut outputs: [&mut [[f32; LANES]]; MAX_PANEL] = [(); MAX_PANEL].map(|()| &mut [][..]);
            for (row, outputs) in piece.rows.clone().zip(&mut outputs) {
                let start = row * stride + offset;
                let range = start + columns.start * LANES..start + columns.end * LANES;
                // SAFETY: the columns are this worker's share of the stage, and no row is taken twice.
                *outputs = unsafe { target.get_mut(range) }.as_chunks_mut().0;
            }
            let columns = matrix.columns_in(columns.clone());
            self.simd.run_panel(piece.rows.len(), AddProduct { columns, rows, outputs: &mut outputs });
        }
    }
}
