//! Low-rank adapters (Hu et al. 2021): W·x + s·B·(A·x), where A has few rows and B as many columns.
//!
//! Both matrices are kept in eight bits, the factor s within B: at a batch of sixteen streams with an adapter each, the
//! adapters are as many bytes to read as the base itself, so what matters is how small they are. Their products
//! are those of eight-bit weights: exact inside a block of 32 inputs, summed up over blocks in ascending order.

mod kernel;
mod matrix;
#[cfg(test)]
mod tests;

pub(crate) use kernel::AddProduct;
use matrix::{Arena, Layout};
pub(crate) use matrix::{Size, Small};

use super::architecture::Architecture;
use super::rotation::Pairs;

/// Largest rank.
pub(crate) const MAX_RANK: usize = 256;

/// Most adapted products with the same input.
pub(crate) const SLOTS: usize = 3;

/// Blocks of 32 in the largest rank.
pub(crate) const MAX_RANK_BLOCKS: usize = MAX_RANK / 32;

/// The products of a layer that can be adapted, in the order of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Target {
    /// Its place among those that have the same input.
    pub(crate) fn slot(self) -> usize {
        match self {
            Self::Query | Self::Output | Self::Gate | Self::Down => 0,
            Self::Key | Self::Up => 1,
            Self::Value => 2,
        }
    }
}

/// The sizes of a base model, which an adapter must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterBase {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) hidden: usize,
    /// Rows of queries and keys are in another order than in the model that the file was made from: first
    /// and second halves of each head in turn.
    pub(crate) interleaved: bool,
    /// The model's authors have one product for queries, keys and values, and one for gate and up.
    pub(crate) fused: bool,
}

impl AdapterBase {
    pub(crate) fn of(architecture: &Architecture) -> Self {
        Self {
            layers: architecture.layers.len(),
            width: architecture.width,
            heads: architecture.heads,
            kv_heads: architecture.kv_heads,
            head_width: architecture.head_width,
            hidden: architecture.hidden,
            interleaved: architecture.rotations[0].pairs == Pairs::Adjacent,
            fused: architecture.fused,
        }
    }

    /// Outputs and inputs of a product.
    pub(crate) fn shape(&self, target: Target) -> (usize, usize) {
        let (queries, kv) = (self.heads * self.head_width, self.kv_heads * self.head_width);
        match target {
            Target::Query => (queries, self.width),
            Target::Key | Target::Value => (kv, self.width),
            Target::Output => (self.width, queries),
            Target::Gate | Target::Up => (self.hidden, self.width),
            Target::Down => (self.width, self.hidden),
        }
    }

    /// The row that output `output` has in the authors' order.
    pub(crate) fn source_row(&self, target: Target, output: usize) -> usize {
        if !self.interleaved || !matches!(target, Target::Query | Target::Key) {
            return output;
        }
        let (head, within) = (output / self.head_width, output % self.head_width);
        head * self.head_width + within % 2 * (self.head_width / 2) + within / 2
    }
}

/// What an adapter adds to one product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// A, rank by inputs; `None` if A·x is that of the part in slot 0.
    shrink: Option<Layout>,
    /// s·B, outputs by rank.
    expand: Layout,
}

/// An adapter's matrices.
pub(crate) struct AdapterWeights {
    base: AdapterBase,
    parts: Vec<[Option<Part>; 7]>,
    /// Products that are adapted in some layer.
    targets: [bool; 7],
    arena: Arena,
}

impl AdapterWeights {
    /// The base that it fits.
    pub(crate) fn base(&self) -> &AdapterBase {
        &self.base
    }

    /// Memory of its matrices, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// A of one product, if it is adapted and has its own.
    pub(crate) fn shrink(&self, layer: usize, target: Target) -> Option<Small<'_>> {
        let part = self.parts[layer][target as usize]?;
        part.shrink.map(|layout| self.arena.matrix(layout))
    }

    /// B of one product, if it is adapted, and the slot of its A·x.
    pub(crate) fn expand(&self, layer: usize, target: Target) -> Option<(Small<'_>, usize)> {
        let part = self.parts[layer][target as usize]?;
        let slot = if part.shrink.is_some() { target.slot() } else { 0 };
        Some((self.arena.matrix(part.expand), slot))
    }

    /// Whether any layer's product is adapted.
    pub(crate) fn adapts(&self, target: Target) -> bool {
        self.targets[target as usize]
    }

    /// Blocks of 32 in the largest rank.
    pub(crate) fn rank_blocks(&self) -> usize {
        let blocks = |part: &Part| part.expand.blocks();
        self.parts.iter().flatten().flatten().map(blocks).max().unwrap_or(0)
    }
}

/// Weights by row and column.
pub(crate) type Weight<'a> = &'a dyn Fn(usize, usize) -> f32;

/// Packs an adapter.
pub(crate) struct Builder(AdapterWeights);

impl Builder {
    /// An adapter that changes nothing. `size` is the sum of the sizes of all that will be added.
    pub(crate) fn new(base: AdapterBase, size: Size) -> Self {
        let parts = vec![[None; 7]; base.layers];
        Self(AdapterWeights { base, parts, targets: [false; 7], arena: Arena::with_capacity(size) })
    }

    /// What one product's part takes, with its own A or without.
    pub(crate) fn part_size(base: &AdapterBase, target: Target, rank: usize, own: bool) -> Size {
        let (outputs, inputs) = base.shape(target);
        let shrink = if own { Size::of(rank, inputs) } else { Size::default() };
        shrink.and(Size::of(outputs, rank))
    }

    /// Adds what is added to one product. A is `None` where A·x is that of slot 0; B includes the factor.
    pub(crate) fn add(
        &mut self,
        layer: usize,
        target: Target,
        rank: usize,
        a: Option<Weight<'_>>,
        b: Weight<'_>,
    ) {
        let (outputs, inputs) = self.0.base.shape(target);
        let shrink = a.map(|a| self.0.arena.push(rank, inputs, a));
        let expand = self.0.arena.push(outputs, rank, b);
        self.0.targets[target as usize] = true;
        self.0.parts[layer][target as usize] = Some(Part { shrink, expand });
    }

    /// The adapter.
    pub(crate) fn finish(self) -> AdapterWeights {
        self.0
    }
}
