//! Weights, packed for the kernels.
//!
//! A matrix is cut into columns of 16 outputs, each a sequence of tiles of 32 inputs (256 for K-quants). The
//! values of the file are kept, bit for bit; only their order changes, and the small scales of K-quants are
//! widened to a byte. One order serves all instruction sets.

mod byte;
mod float;
mod small;
mod super_block;
#[cfg(test)]
mod tests;
mod tile;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::activations::{BLOCK, Forms};
use super::isa::LANES;
use super::number::{Brain, Half, Single};
use crate::EngineError;
use byte::Q8_0;
use float::Floats;
use small::{Q4_0, Q4_1, Q5_0};
use super_block::{Q4K, Q6K};
pub(crate) use tile::Tile;

/// Bytes of the file after which a thread tells how far it has come.
const PIECE: usize = 1 << 20;

/// Columns of tiles in one of the formats.
pub(crate) enum Tiles {
    F32(Vec<Floats<Single>>),
    F16(Vec<Floats<Half>>),
    Bf16(Vec<Floats<Brain>>),
    Q4_0(Vec<Q4_0>),
    Q4_1(Vec<Q4_1>),
    Q5_0(Vec<Q5_0>),
    Q8_0(Vec<Q8_0>),
    Q4K(Vec<Q4K>),
    Q6K(Vec<Q6K>),
}

/// Evaluates an expression with the tiles of whatever format.
macro_rules! with_tiles {
    ($tiles:expr, $name:ident => $body:expr) => {
        match $tiles {
            $crate::packed::weights::Tiles::F32($name) => $body,
            $crate::packed::weights::Tiles::F16($name) => $body,
            $crate::packed::weights::Tiles::Bf16($name) => $body,
            $crate::packed::weights::Tiles::Q4_0($name) => $body,
            $crate::packed::weights::Tiles::Q4_1($name) => $body,
            $crate::packed::weights::Tiles::Q5_0($name) => $body,
            $crate::packed::weights::Tiles::Q8_0($name) => $body,
            $crate::packed::weights::Tiles::Q4K($name) => $body,
            $crate::packed::weights::Tiles::Q6K($name) => $body,
        }
    };
}
pub(crate) use with_tiles;

/// A matrix of weights, outputs by inputs.
pub(crate) struct Matrix {
    outputs: usize,
    inputs: usize,
    tiles: Tiles,
}

impl Matrix {
    /// Packs `outputs` rows of `inputs` weights from the file's bytes, of the format with number `type_id`.
    /// `name` is for errors. Uses `threads` threads.
    pub(crate) fn pack(
        name: &str,
        shape: (usize, usize),
        type_id: u32,
        file: &[u8],
        threads: usize,
    ) -> Result<Self, EngineError> {
        Self::pack_in_pieces(name, shape, type_id, file, threads, &|_| {})
    }

    /// The same; the threads tell `packed` of each range of `file` that they are done with.
    pub(crate) fn pack_in_pieces(
        name: &str,
        (outputs, inputs): (usize, usize),
        type_id: u32,
        file: &[u8],
        threads: usize,
        packed: &(dyn Fn(Range<usize>) + Sync),
    ) -> Result<Self, EngineError> {
        let pack = Packing { name, outputs, inputs, file, threads, packed };
        let tiles = match type_id {
            0 => Tiles::F32(pack.run()?),
            1 => Tiles::F16(pack.run()?),
            2 => Tiles::Q4_0(pack.run()?),
            3 => Tiles::Q4_1(pack.run()?),
            6 => Tiles::Q5_0(pack.run()?),
            8 => Tiles::Q8_0(pack.run()?),
            12 => Tiles::Q4K(pack.run()?),
            14 => Tiles::Q6K(pack.run()?),
            30 => Tiles::Bf16(pack.run()?),
            other => {
                return Err(EngineError::Unsupported {
                    what: format!("the format of {name}"),
                    found: format!("number {other}"),
                    supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q6_K".to_owned(),
                });
            }
        };
        Ok(Self { outputs, inputs, tiles })
    }

    /// Number of outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of tiles: 16 outputs each, the last padded with zeros.
    pub(crate) fn columns(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Blocks of 32 inputs.
    pub(crate) fn blocks(&self) -> usize {
        self.inputs / BLOCK
    }

    /// The forms of activations that its kernels read.
    pub(crate) fn forms(&self) -> Forms {
        fn of<T: Tile>(_: &[T]) -> Forms {
            T::FORMS
        }
        with_tiles!(&self.tiles, tiles => of(tiles))
    }

    /// The tiles.
    pub(crate) fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// Memory of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        with_tiles!(&self.tiles, tiles => size_of_val(tiles.as_slice()))
    }

    /// The weights of one output, as they are in the file: its `inputs` values.
    pub(crate) fn unpack(&self, output: usize, weights: &mut [f32]) {
        fn unpack<T: Tile>(tiles: &[T], blocks: usize, output: usize, weights: &mut [f32]) {
            let length = blocks / T::BLOCKS;
            let column = &tiles[output / LANES * length..][..length];
            for (tile, weights) in column.iter().zip(weights.chunks_exact_mut(BLOCK * T::BLOCKS)) {
                tile.unpack(output % LANES, weights);
            }
        }
        with_tiles!(&self.tiles, tiles => unpack(tiles, self.blocks(), output, weights));
    }
}

struct Packing<'a> {
    name: &'a str,
    outputs: usize,
    inputs: usize,
    file: &'a [u8],
    threads: usize,
    packed: &'a (dyn Fn(Range<usize>) + Sync),
}

impl Packing<'_> {
    fn run<T: Tile>(&self) -> Result<Vec<T>, EngineError> {
        let wrong = |detail| EngineError::Inconsistent { what: self.name.to_owned(), detail };
        let width = BLOCK * T::BLOCKS;
        if self.inputs == 0 || !self.inputs.is_multiple_of(width) {
            return Err(EngineError::Unsupported {
                what: format!("the row length of {}", self.name),
                found: self.inputs.to_string(),
                supported: format!("multiples of {width} in this format"),
            });
        }
        let row_bytes = self.inputs / width * T::FILE_BYTES;
        let expected = row_bytes.checked_mul(self.outputs);
        if self.outputs == 0 || expected != Some(self.file.len()) {
            let (outputs, found) = (self.outputs, self.file.len());
            return Err(wrong(format!("{outputs} rows of {row_bytes} bytes are not its {found} bytes")));
        }
        let (columns, per_column) = (self.outputs.div_ceil(LANES), self.inputs / width);
        let share = columns.div_ceil(self.threads.max(1));
        let mut tiles: Vec<T> = Vec::with_capacity(columns * per_column);
        let room = &mut tiles.spare_capacity_mut()[..columns * per_column];
        std::thread::scope(|scope| {
            let starts = (0..).step_by(share);
            let parts: Vec<_> = starts
                .zip(room.chunks_mut(share * per_column))
                .map(|(start, room)| scope.spawn(move || self.columns(start, room, row_bytes)))
                .collect();
            let ends: Vec<_> = parts.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            ends.into_iter().try_for_each(|end| end.map_err(|_| wrong("packing it panicked".to_owned())))
        })?;
        #[expect(unsafe_code, reason = "threads write their parts of one allocation")]
        // SAFETY: there is room for so many; the chunks cover all of them, and no thread has panicked, so that `columns` has
        // written every element of its chunk.
        unsafe {
            tiles.set_len(columns * per_column);
        }
        Ok(tiles)
    }

    /// Writes the columns of tiles from number `first` on, as many as there is room for: every element of it.
    fn columns<T: Tile>(&self, first: usize, room: &mut [MaybeUninit<T>], row_bytes: usize) {
        let zeros = vec![0; T::FILE_BYTES];
        let per_column = row_bytes / T::FILE_BYTES;
        let begin = |column: usize| (column * LANES * row_bytes).min(self.file.len());
        let mut told = first;
        for (column, room) in (first..).zip(room.chunks_mut(per_column)) {
            for (index, tile) in room.iter_mut().enumerate() {
                let outputs: [&[u8]; LANES] = std::array::from_fn(|lane| {
                    let output = column * LANES + lane;
                    if output >= self.outputs {
                        return &zeros[..];
                    }
                    &self.file[output * row_bytes + index * T::FILE_BYTES..][..T::FILE_BYTES]
                });
                tile.write(T::pack(&outputs));
            }
            if begin(column + 1) - begin(told) >= PIECE {
                (self.packed)(begin(told)..begin(column + 1));
                told = column + 1;
            }
        }
        (self.packed)(begin(told)..begin(first + room.len() / per_column));
    }
}
