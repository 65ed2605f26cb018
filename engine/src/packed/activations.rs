//! Rows of activations in the forms that kernels read.
//!
//! A block is 32 consecutive values x of a row. It is quantised by its largest magnitude: s = max|x| / 127
//! and q = round(x · (127 / max|x|)), ties to even, so that x ≈ s·q with q from -127 to 127. The sum of q is
//! kept beside it, for weights with an offset or a minimum.
//!
//! Rows are laid out in panels, as many rows as a kernel takes at once: within a panel the first blocks of
//! all its rows, then the second blocks, and so on. What a row becomes does not depend on its panel.

use std::ops::Range;

use super::isa::{Kernel, LANES, Simd};
use super::shared::Shared;

/// Values in a block.
pub(crate) const BLOCK: usize = 32;

/// What a quantised block is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Scale {
    /// s
    pub(crate) scale: f32,
    /// s · Σq
    pub(crate) scaled_sum: f32,
    /// Σq over each half of the block.
    pub(crate) sums: [i32; 2],
}

impl Scale {
    /// Σq
    #[inline(always)]
    pub(crate) fn sum(&self) -> i32 {
        self.sums[0] + self.sums[1]
    }
}

/// Which forms of a block are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    /// Bytes, for weights below eight bits.
    pub(crate) bytes: bool,
    /// [`Simd::Wide`], for weights of eight bits.
    pub(crate) wide: bool,
    /// Unquantised, for weights that are floats.
    pub(crate) floats: bool,
}

impl Forms {
    /// Those that either needs.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            bytes: self.bytes || other.bytes,
            wide: self.wide || other.wide,
            floats: self.floats || other.floats,
        }
    }
}

/// The division of rows into panels: full ones, then ever smaller powers of two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels {
    rows: usize,
    widest: usize,
}

impl Panels {
    /// Divides `rows` rows for the instruction set `S`.
    pub(crate) fn of<S: Simd>(rows: usize) -> Self {
        Self { rows, widest: S::PANEL }
    }

    /// How many panels there are.
    pub(crate) fn count(self) -> usize {
        self.rows / self.widest + (self.rows % self.widest).count_ones() as usize
    }

    /// The rows of one panel.
    pub(crate) fn rows(self, index: usize) -> Range<usize> {
        let full = self.rows / self.widest;
        if index < full {
            return index * self.widest..(index + 1) * self.widest;
        }
        let (mut start, mut rest) = (full * self.widest, self.rows % self.widest);
        for _ in full..index {
            let width = 1 << rest.ilog2();
            (start, rest) = (start + width, rest - width);
        }
        start..start + (1 << rest.ilog2())
    }
}

/// Room for quantised rows.
pub(crate) struct Activations<S: Simd> {
    scales: Shared<Scale>,
    bytes: Shared<[i32; 8]>,
    wide: Shared<S::Wide>,
    floats: Shared<[f32; BLOCK]>,
}

impl<S: Simd> Activations<S> {
    /// Room for `blocks` blocks in these forms.
    pub(crate) fn new(blocks: usize, forms: Forms) -> Self {
        let count = |needed: bool| if needed { blocks } else { 0 };
        Self {
            scales: vec![Scale::default(); blocks].into(),
            bytes: vec![[0; 8]; count(forms.bytes)].into(),
            wide: vec![S::Wide::default(); count(forms.wide)].into(),
            floats: vec![[0.0; BLOCK]; count(forms.floats)].into(),
        }
    }

    /// The panel of these rows, of `blocks` blocks each, to read.
    ///
    /// # Safety
    /// Nobody writes the panel while the result lives.
    #[expect(unsafe_code, reason = "hands on the contract of `Shared`")]
    pub(crate) unsafe fn panel(&self, rows: Range<usize>, blocks: usize) -> PanelRef<'_, S> {
        let range = rows.start * blocks..rows.end * blocks;
        // SAFETY: handed on to the caller.
        unsafe {
            PanelRef {
                rows: rows.len(),
                scales: self.scales.get(range.clone()),
                bytes: self.bytes.get(clipped(&range, self.bytes.len())),
                wide: self.wide.get(clipped(&range, self.wide.len())),
                floats: self.floats.get(clipped(&range, self.floats.len())),
            }
        }
    }

    /// Rows that were written as panels of one row each, with room for `blocks` blocks, to read.
    ///
    /// # Safety
    /// Nobody writes the rows while the result lives.
    #[expect(unsafe_code, reason = "hands on the contract of `Shared`")]
    pub(crate) unsafe fn single_rows(&self, rows: Range<usize>, blocks: usize) -> QuantisedRows<'_, S> {
        let range = rows.start * blocks..rows.end * blocks;
        // SAFETY: handed on to the caller.
        let (scales, wide) = unsafe { (self.scales.get(range.clone()), self.wide.get(range)) };
        QuantisedRows { scales, wide, row_stride: blocks, block_stride: 1 }
    }

    /// The panel of these rows, of `blocks` blocks each, to write.
    ///
    /// # Safety
    /// Nobody else reads or writes the panel while the result lives.
    #[expect(unsafe_code, reason = "hands on the contract of `Shared`")]
    pub(crate) unsafe fn panel_mut(&self, rows: Range<usize>, blocks: usize) -> PanelMut<'_, S> {
        let range = rows.start * blocks..rows.end * blocks;
        // SAFETY: handed on to the caller.
        unsafe {
            PanelMut {
                rows: rows.len(),
                scales: self.scales.get_mut(range.clone()),
                bytes: self.bytes.get_mut(clipped(&range, self.bytes.len())),
                wide: self.wide.get_mut(clipped(&range, self.wide.len())),
                floats: self.floats.get_mut(clipped(&range, self.floats.len())),
            }
        }
    }
}

/// Rows quantised for weights of eight bits, wherever they lie.
pub(crate) struct QuantisedRows<'a, S: Simd> {
    scales: &'a [Scale],
    wide: &'a [S::Wide],
    row_stride: usize,
    block_stride: usize,
}

impl<'a, S: Simd> QuantisedRows<'a, S> {
    /// What a block of a row is worth.
    #[inline(always)]
    pub(crate) fn scale(&self, block: usize, row: usize) -> &'a Scale {
        &self.scales[block * self.block_stride + row * self.row_stride]
    }

    /// A block of a row.
    #[inline(always)]
    pub(crate) fn wide(&self, block: usize, row: usize) -> &'a S::Wide {
        &self.wide[block * self.block_stride + row * self.row_stride]
    }
}

/// A form that nobody needs has no memory.
fn clipped(range: &Range<usize>, length: usize) -> Range<usize> {
    if length == 0 { 0..0 } else { range.clone() }
}

/// A panel of activations to read.
pub(crate) struct PanelRef<'a, S: Simd> {
    /// Rows in the panel.
    pub(crate) rows: usize,
    scales: &'a [Scale],
    bytes: &'a [[i32; 8]],
    wide: &'a [S::Wide],
    floats: &'a [[f32; BLOCK]],
}

impl<'a, S: Simd> PanelRef<'a, S> {
    /// The panel by blocks; `M` must be `rows`.
    pub(crate) fn by_blocks<const M: usize>(&self) -> Panel<'a, S, M> {
        debug_assert_eq!(self.rows, M, "a kernel for another number of rows");
        Panel {
            scales: self.scales.as_chunks().0,
            bytes: self.bytes.as_chunks().0,
            wide: self.wide.as_chunks().0,
            floats: self.floats.as_chunks().0,
        }
    }

    /// The panel's rows from `first` on. The panel must have the form for weights of eight bits.
    pub(crate) fn rows_from(&self, first: usize) -> QuantisedRows<'a, S> {
        let (scales, wide) = (&self.scales[first..], &self.wide[first..]);
        QuantisedRows { scales, wide, row_stride: 1, block_stride: self.rows }
    }
}

/// A panel of `M` rows, indexed by block and row.
pub(crate) struct Panel<'a, S: Simd, const M: usize> {
    /// Scales and sums.
    pub(crate) scales: &'a [[Scale; M]],
    /// Quantised values, four to an `i32`.
    pub(crate) bytes: &'a [[[i32; 8]; M]],
    /// The same, for weights of eight bits.
    pub(crate) wide: &'a [[S::Wide; M]],
    /// Unquantised values.
    pub(crate) floats: &'a [[[f32; BLOCK]; M]],
}

/// A panel of activations to write.
pub(crate) struct PanelMut<'a, S: Simd> {
    rows: usize,
    scales: &'a mut [Scale],
    bytes: &'a mut [[i32; 8]],
    wide: &'a mut [S::Wide],
    floats: &'a mut [[f32; BLOCK]],
}

impl<S: Simd> PanelMut<'_, S> {
    /// The same without the form for weights of eight bits, where nobody reads that.
    pub(crate) fn without_wide(self) -> Self {
        Self { wide: &mut [], ..self }
    }
}

/// Writes one row of a panel in all forms that the panel has.
pub(crate) struct QuantiseRow<'a, 'b, S: Simd> {
    /// The row's values, a multiple of 32.
    pub(crate) values: &'a [f32],
    /// Where they go.
    pub(crate) panel: &'a mut PanelMut<'b, S>,
    /// Which row of the panel they are.
    pub(crate) row: usize,
}

impl<S: Simd> Kernel<S> for QuantiseRow<'_, '_, S> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let panel = self.panel;
        for (block, values) in self.values.as_chunks::<BLOCK>().0.iter().enumerate() {
            let at = block * panel.rows + self.row;
            if let Some(floats) = panel.floats.get_mut(at) {
                *floats = *values;
            }
            let [low, high] = values.as_chunks::<LANES>().0 else { return };
            let (low, high) = (simd.load(low), simd.load(high));
            let largest = simd.largest(simd.max(simd.abs(low), simd.abs(high)));
            let inverse = simd.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
            // The bounds matter where the quotient overflows, and for infinities and NaN.
            let (least, most) = (simd.splat(-127.0), simd.splat(127.0));
            let low = simd.to_i32(simd.min(simd.max(simd.mul(low, inverse), least), most));
            let high = simd.to_i32(simd.min(simd.max(simd.mul(high, inverse), least), most));
            let scale = largest / 127.0;
            let sums = [simd.sum_i32(low), simd.sum_i32(high)];
            panel.scales[at] = Scale { scale, scaled_sum: scale * (sums[0] + sums[1]) as f32, sums };
            if let Some(bytes) = panel.bytes.get_mut(at) {
                *bytes = simd.pack(low, high);
            }
            if let Some(wide) = panel.wide.get_mut(at) {
                *wide = simd.pack_wide(low, high);
            }
        }
    }
}
