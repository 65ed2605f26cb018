//! Memory that a pass works in, taken once.

use crate::packed::activations::{Activations, Forms};
use crate::packed::isa::Simd;
use crate::packed::lora::{MAX_RANK_BLOCKS, SLOTS};
use crate::packed::model::Model;
use crate::packed::shared::Shared;

/// Most rows of a pass: what their activations take stays in the cache.
pub(crate) const MAX_ROWS: usize = 256;

/// Up to so many rows each worker prepares for itself what all workers read, which is faster than to share
/// the work and wait.
pub(crate) const PRIVATE_ROWS: usize = 4;

/// What the workers share.
pub(crate) struct Buffers<S: Simd> {
    /// The residual stream, [row][width].
    pub(crate) stream: Shared<f32>,
    /// Queries, keys and values, [row][all heads].
    pub(crate) projected: Shared<f32>,
    /// Results of attention, [row][query heads].
    pub(crate) attended: Shared<f32>,
    /// Gate times up, [row][hidden].
    pub(crate) hidden: Shared<f32>,
    /// Up, where adapters add to it before the product, [row][hidden].
    pub(crate) ups: Shared<f32>,
    /// What is added to the residual stream next, [row][width].
    pub(crate) branch: Shared<f32>,
    /// Inputs of the next products.
    pub(crate) activations: Activations<S>,
    /// A·x of adapters: by slot and row, each with room for the largest rank.
    pub(crate) ranks: Activations<S>,
    /// The model's own matrices read activations in the form for weights of eight bits.
    pub(crate) wide: bool,
    /// What each worker has for itself.
    pub(crate) locals: Shared<Local<S>>,
}

/// What a worker has for itself.
pub(crate) struct Local<S: Simd> {
    /// The residual stream of a pass of few rows.
    pub(crate) stream: Vec<f32>,
    /// Inputs of its next products.
    pub(crate) activations: Activations<S>,
    /// One row, normalised.
    pub(crate) row: Vec<f32>,
    /// Weights of attention.
    pub(crate) scratch: Vec<f32>,
}

impl<S: Simd> Buffers<S> {
    /// Room for passes of the model.
    pub(crate) fn new(model: &Model, workers: usize) -> Self {
        let architecture = &model.architecture;
        let (width, queries) = (architecture.width, architecture.query_width());
        let widest = width.max(queries).max(architecture.hidden);
        let forms = model.layers.iter().fold(model.head().forms(), |forms, layer| {
            let others = [&layer.output.matrix, &layer.gate, &layer.up, &layer.down.matrix];
            let projections = layer.projections.iter().map(|projection| &projection.matrix);
            projections.chain(others).fold(forms, |forms, matrix| forms.or(matrix.forms()))
        });
        let rows = |width: usize| Shared::from(vec![0.0; MAX_ROWS * width]);
        let adapted = Forms { wide: true, ..Forms::default() };
        let activations = |rows: usize| Activations::new(rows * widest / 32, forms.or(adapted));
        let locals: Vec<_> = (0..workers)
            .map(|_| Local {
                stream: vec![0.0; PRIVATE_ROWS * width],
                activations: activations(PRIVATE_ROWS),
                row: vec![0.0; widest],
                scratch: Vec::new(),
            })
            .collect();
        Self {
            stream: rows(width),
            projected: rows(queries + 2 * architecture.kv_width()),
            attended: rows(queries),
            hidden: rows(architecture.hidden),
            ups: rows(architecture.hidden),
            branch: rows(width),
            activations: activations(MAX_ROWS),
            ranks: Activations::new(SLOTS * MAX_ROWS * MAX_RANK_BLOCKS, adapted),
            wide: forms.wide,
            locals: locals.into(),
        }
    }
}
