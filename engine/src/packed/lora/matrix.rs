//! Small matrices in eight bits, many of them in one piece of memory.

use std::ops::Range;
use std::slice::ChunksExact;

use crate::packed::activations::BLOCK;
use crate::packed::isa::LANES;

/// Four inputs of each of 16 outputs, as u8 with an offset of 128: input i of output c is byte 4c + i.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Group(pub(crate) [u8; 64]);

/// Where a matrix lies in its arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    outputs: usize,
    inputs: usize,
    scales: usize,
    groups: usize,
}

impl Layout {
    /// Columns of 16 outputs, the last padded with zeros.
    fn columns(self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Blocks of 32 inputs; the last may have fewer.
    pub(super) fn blocks(self) -> usize {
        self.inputs.div_ceil(BLOCK)
    }

    /// Groups of four inputs, the last padded with zeros.
    fn column_groups(self) -> usize {
        self.inputs.div_ceil(4)
    }
}

/// What matrices take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    scales: usize,
    groups: usize,
}

impl Size {
    /// Of one matrix.
    pub(super) fn of(outputs: usize, inputs: usize) -> Self {
        let layout = Layout { outputs, inputs, scales: 0, groups: 0 };
        let columns = layout.columns();
        Self { scales: columns * layout.blocks(), groups: columns * layout.column_groups() }
    }

    /// Of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { scales: self.scales + other.scales, groups: self.groups + other.groups }
    }

    /// In bytes.
    pub(crate) fn bytes(self) -> usize {
        self.scales * size_of::<[u16; LANES]>() + self.groups * size_of::<Group>()
    }
}

/// Weights w = d·(q - 128). Each output has one d in bfloat16 for each block of 32 inputs.
pub(super) struct Arena {
    /// By column and block.
    scales: Vec<[u16; LANES]>,
    /// By column and input.
    groups: Vec<Group>,
}

impl Arena {
    /// Room for matrices of this size in all.
    pub(super) fn with_capacity(size: Size) -> Self {
        Self { scales: Vec::with_capacity(size.scales), groups: Vec::with_capacity(size.groups) }
    }

    /// Memory of all matrices.
    pub(super) fn bytes(&self) -> usize {
        Size { scales: self.scales.capacity(), groups: self.groups.capacity() }.bytes()
    }

    /// Quantises a matrix of finite weights.
    pub(super) fn push(
        &mut self,
        outputs: usize,
        inputs: usize,
        weight: &dyn Fn(usize, usize) -> f32,
    ) -> Layout {
        let layout = Layout { outputs, inputs, scales: self.scales.len(), groups: self.groups.len() };
        for column in 0..layout.columns() {
            let first = self.groups.len();
            self.groups.resize(first + layout.column_groups(), Group([128; 64]));
            for block in 0..layout.blocks() {
                let mut scales = [0; LANES];
                let block_inputs = block * BLOCK..inputs.min((block + 1) * BLOCK);
                for (lane, scale) in scales.iter_mut().enumerate() {
                    let output = column * LANES + lane;
                    if output >= outputs {
                        break;
                    }
                    let mut values = [0.0; BLOCK];
                    for (value, input) in values.iter_mut().zip(block_inputs.clone()) {
                        *value = weight(output, input);
                    }
                    let quantised;
                    (*scale, quantised) = quantise(&values);
                    for (input, byte) in block_inputs.clone().zip(quantised) {
                        self.groups[first + input / 4].0[4 * lane + input % 4] = byte;
                    }
                }
                self.scales.push(scales);
            }
        }
        layout
    }

    /// A matrix to read.
    pub(super) fn matrix(&self, layout: Layout) -> Small<'_> {
        let scales = layout.columns() * layout.blocks();
        let groups = layout.columns() * layout.column_groups();
        Small {
            layout,
            scales: &self.scales[layout.scales..][..scales],
            groups: &self.groups[layout.groups..][..groups],
        }
    }
}

/// A matrix of an arena.
#[derive(Clone, Copy)]
pub(crate) struct Small<'a> {
    layout: Layout,
    scales: &'a [[u16; LANES]],
    groups: &'a [Group],
}

impl<'a> Small<'a> {
    /// Columns of 16 outputs.
    pub(crate) fn columns(&self) -> usize {
        self.layout.columns()
    }

    /// Blocks of 32 inputs.
    pub(crate) fn blocks(&self) -> usize {
        self.layout.blocks()
    }

    /// Some columns.
    pub(crate) fn columns_in(&self, columns: Range<usize>) -> Columns<'a> {
        let (blocks, groups) = (self.layout.blocks(), self.layout.column_groups());
        Columns {
            scales: self.scales[columns.start * blocks..columns.end * blocks].chunks_exact(blocks),
            groups: self.groups[columns.start * groups..columns.end * groups].chunks_exact(groups),
        }
    }
}

/// Columns of a matrix, one after the other.
#[derive(Clone)]
pub(crate) struct Columns<'a> {
    scales: ChunksExact<'a, [u16; LANES]>,
    groups: ChunksExact<'a, Group>,
}

/// One column.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    /// By block.
    pub(crate) scales: &'a [[u16; LANES]],
    /// By input.
    pub(crate) groups: &'a [Group],
}

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Column<'a>> {
        Some(Column { scales: self.scales.next()?, groups: self.groups.next()? })
    }
}

/// d, in bfloat16, and q + 128 for each weight. Where all are zero, or next to it, all q are.
pub(super) fn quantise(weights: &[f32; BLOCK]) -> (u16, [u8; BLOCK]) {
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let exact = largest / 127.0;
    // Rounded up, so that no weight is beyond 127 · d.
    let scale = (exact.to_bits().wrapping_add(0xffff) >> 16) as u16;
    let value = f32::from_bits(u32::from(scale) << 16);
    if !exact.is_normal() || !value.is_finite() {
        return (0, [128; BLOCK]);
    }
    let quotients = weights.map(|weight| (weight / value).round_ties_even().clamp(-127.0, 127.0));
    (scale, quotients.map(|quotient| (quotient as i32 + 128) as u8))
}
