//! The memory of keys and values.

use super::super::architecture::Architecture;
use super::super::isa::LANES;
use super::super::number::Number;
use super::super::shared::Shared;

/// Positions in a block.
pub(crate) const POSITIONS: usize = LANES;

/// Sizes of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Layers of the model.
    pub(crate) layers: usize,
    /// Key heads, as many as value heads.
    pub(crate) heads: usize,
    /// Values in a head, a multiple of 16.
    pub(crate) head_width: usize,
    /// Blocks of 16 positions.
    pub(crate) blocks: usize,
}

impl Geometry {
    /// The sizes of a model's cache of so many blocks.
    pub(crate) fn of(architecture: &Architecture, blocks: usize) -> Self {
        let Architecture { kv_heads: heads, head_width, .. } = *architecture;
        Self { layers: architecture.layers.len(), heads, head_width, blocks }
    }

    /// Vectors of 16 that one head takes in one block: keys, then values.
    fn vectors(self) -> usize {
        2 * self.head_width
    }

    /// Vectors of 16 in all; `None` if that overflows.
    fn total(self) -> Option<usize> {
        [self.layers, self.blocks, self.heads].into_iter().try_fold(self.vectors(), usize::checked_mul)
    }

    /// Values kept for one position.
    pub(crate) fn values_per_token(self) -> usize {
        2 * self.layers * self.heads * self.head_width
    }
}

/// Keys and values of all blocks. Within a block, each head has its keys transposed, [width][16 positions],
/// and its values in strips, [width / 16][16 positions][16 values]: both are read in order.
pub(crate) struct Store<N: Number> {
    geometry: Geometry,
    vectors: Shared<[N::Bits; LANES]>,
}

impl<N: Number> Store<N> {
    /// Zeroed memory, which the operating system lends when it is first written; `None` if it never could lend so much.
    pub(crate) fn new(geometry: Geometry) -> Option<Self> {
        let total =
            geometry.total().filter(|total| total.checked_mul(64).is_some_and(|bytes| bytes < 1 << 47))?;
        // A failure of this is an error, one of the next would end the process.
        Vec::<[N::Bits; LANES]>::new().try_reserve_exact(total).ok()?;
        Some(Self { geometry, vectors: vec![[N::Bits::default(); LANES]; total].into() })
    }

    /// Sizes of the cache.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn range(&self, layer: usize, block: u32, head: usize) -> std::ops::Range<usize> {
        let Geometry { heads, blocks, .. } = self.geometry;
        let start = ((layer * blocks + block as usize) * heads + head) * self.geometry.vectors();
        start..start + self.geometry.vectors()
    }

    /// One sequence's view of one head in one layer, to read.
    ///
    /// # Safety
    /// Nobody writes this head in any block of `table` while the view lives.
    #[expect(unsafe_code, reason = "hands on the contract of `Shared`")]
    pub(crate) unsafe fn head<'a>(&'a self, layer: usize, head: usize, table: &'a [u32]) -> HeadView<'a, N> {
        HeadView { store: self, layer, head, table }
    }

    /// One head of one block, to write: its keys, then its values.
    ///
    /// # Safety
    /// Nobody else reads or writes this head of this block while the result lives.
    #[expect(unsafe_code, reason = "hands on the contract of `Shared`")]
    #[expect(clippy::mut_from_ref, reason = "hands on the contract of `Shared`")]
    pub(crate) unsafe fn head_mut(&self, layer: usize, block: u32, head: usize) -> &mut [[N::Bits; LANES]] {
        // SAFETY: handed on to the caller.
        unsafe { self.vectors.get_mut(self.range(layer, block, head)) }
    }

    /// Copies a block in all layers.
    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        let ranges: Vec<_> = (0..self.geometry.layers)
            .map(|layer| {
                let whole = |block| {
                    self.range(layer, block, 0).start..self.range(layer, block, self.geometry.heads - 1).end
                };
                (whole(from), whole(to).start)
            })
            .collect();
        let vectors = self.vectors.all_mut();
        ranges.into_iter().for_each(|(from, to)| vectors.copy_within(from, to));
    }
}

/// Sixteen numbers each.
type Vectors<'a, N> = &'a [[<N as Number>::Bits; LANES]];

/// Keys and values of one head in one layer of one sequence.
pub(crate) struct HeadView<'a, N: Number> {
    store: &'a Store<N>,
    layer: usize,
    head: usize,
    table: &'a [u32],
}

impl<'a, N: Number> HeadView<'a, N> {
    /// Keys and values of the positions from 16 · `index` on.
    #[expect(unsafe_code, reason = "the contract of `Shared`")]
    #[inline(always)]
    pub(crate) fn block(&self, index: usize) -> (Vectors<'a, N>, Vectors<'a, N>) {
        let range = self.store.range(self.layer, self.table[index], self.head);
        // SAFETY: who made the view promised that nobody writes this head in the blocks of the table.
        let vectors = unsafe { self.store.vectors.get(range) };
        vectors.split_at(self.store.geometry.head_width)
    }
}
