//! A model's weights, packed, and how they are read from a file.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

use super::architecture::{Architecture, LayerKind};
use super::isa::LANES;
use super::number::{Brain, Half, Number, Single};
use super::rotation::Angles;
use super::weights::Matrix;
use crate::EngineError;
use crate::gguf::{self, Gguf, TensorInfo};

/// Everything that a file says.
pub(crate) struct Model {
    /// Sizes and functions.
    pub(crate) architecture: Architecture,
    /// Vocabulary by width.
    pub(crate) embedding: Matrix,
    /// The layers.
    pub(crate) layers: Vec<Layer>,
    /// Factors of the last norm.
    pub(crate) norm: Vec<f32>,
    /// Vocabulary by width, where that is not the embedding.
    pub(crate) head: Option<Matrix>,
    /// The angles of each of the architecture's rotations.
    pub(crate) angles: Vec<Angles>,
}

/// One layer. Vectors are factors of norms, or biases.
pub(crate) struct Layer {
    pub(crate) kind: LayerKind,
    pub(crate) attention_norm: Vec<f32>,
    /// Queries, keys, values.
    pub(crate) projections: [Projection; 3],
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) output: Projection,
    pub(crate) attention_post_norm: Option<Vec<f32>>,
    pub(crate) feed_norm: Vec<f32>,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Projection,
    pub(crate) feed_post_norm: Option<Vec<f32>>,
}

/// A matrix, and what is added to its products: as long as its columns are wide, padding included.
pub(crate) struct Projection {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Model {
    /// Reads and packs the tensors of the file at `path`, whose header is `gguf`. `packed` is told of each piece, in bytes.
    #[expect(unsafe_code, reason = "the file is mapped")]
    pub(crate) fn load(
        path: &Path,
        gguf: &Gguf,
        threads: usize,
        packed: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, EngineError> {
        let architecture = Architecture::read(gguf)?;
        let file = gguf::open(path)?;
        let failed = |source| EngineError::Io { action: "read", path: path.to_owned(), source };
        // SAFETY: the map is read-only and lives in this function alone. Whoever changes the file meanwhile
        // changes the numbers that are read, which are valid whatever they are; whoever cuts it short ends
        // the process, as with any program that it is running.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let reader = Reader { gguf, map: &map, threads, packed, read: RefCell::default() };
        let (width, vocabulary) = (architecture.width, architecture.vocabulary);
        let embedding = reader.matrix("token_embd.weight", vocabulary, width)?;
        let head = match reader.find("output.weight") {
            Some(_) => Some(reader.matrix("output.weight", vocabulary, width)?),
            None => None,
        };
        let divisors = architecture.rotations[0].rotated / 2;
        let divisors = reader.optional_vector("rope_freqs.weight", divisors)?;
        let model = Self {
            layers: architecture
                .layers
                .iter()
                .enumerate()
                .map(|(index, kind)| reader.layer(&architecture, index, *kind))
                .collect::<Result<_, _>>()?,
            norm: reader.vector("output_norm.weight", width)?,
            angles: architecture.rotations.iter().map(|one| Angles::new(*one, divisors.as_deref())).collect(),
            architecture,
            embedding,
            head,
        };
        reader.check_nothing_is_left()?;
        Ok(model)
    }

    /// The matrix that gives the logits.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Memory of all matrices.
    pub(crate) fn bytes(&self) -> usize {
        let layer = |layer: &Layer| {
            let others = [&layer.output.matrix, &layer.gate, &layer.up, &layer.down.matrix];
            let projections = layer.projections.iter().map(|projection| &projection.matrix);
            projections.chain(others).map(Matrix::bytes).sum::<usize>()
        };
        self.layers.iter().map(layer).sum::<usize>()
            + self.embedding.bytes()
            + self.head.as_ref().map_or(0, Matrix::bytes)
    }
}

struct Reader<'a> {
    gguf: &'a Gguf,
    map: &'a Mmap,
    threads: usize,
    packed: &'a (dyn Fn(u64) + Sync),
    /// Names of tensors that have been read.
    read: RefCell<HashSet<String>>,
}

impl Reader<'_> {
    fn layer(
        &self,
        architecture: &Architecture,
        index: usize,
        kind: LayerKind,
    ) -> Result<Layer, EngineError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let Architecture { width, hidden, head_width, .. } = *architecture;
        let vector = |part: &str, length| self.vector(&name(part), length);
        let when = |present: bool, part: &str, length| present.then(|| vector(part, length)).transpose();
        let projection =
            |part: &str, outputs, inputs| self.projection(&name(part), 0..outputs, outputs, inputs);
        let (gate, up) = if architecture.fused {
            let fused = |rows| self.rows(&name("ffn_up.weight"), rows, 2 * hidden, width);
            (fused(0..hidden)?, fused(hidden..2 * hidden)?)
        } else {
            (
                self.matrix(&name("ffn_gate.weight"), hidden, width)?,
                self.matrix(&name("ffn_up.weight"), hidden, width)?,
            )
        };
        Ok(Layer {
            kind,
            attention_norm: vector("attn_norm.weight", width)?,
            projections: self.projections(architecture, &name)?,
            query_norm: when(architecture.head_norms, "attn_q_norm.weight", head_width)?,
            key_norm: when(architecture.head_norms, "attn_k_norm.weight", head_width)?,
            output: projection("attn_output", width, architecture.query_width())?,
            attention_post_norm: when(architecture.post_norms, "post_attention_norm.weight", width)?,
            feed_norm: vector("ffn_norm.weight", width)?,
            gate,
            up,
            down: projection("ffn_down", width, hidden)?,
            feed_post_norm: when(architecture.post_norms, "post_ffw_norm.weight", width)?,
        })
    }

    fn projections(
        &self,
        architecture: &Architecture,
        name: &dyn Fn(&str) -> String,
    ) -> Result<[Projection; 3], EngineError> {
        let (width, queries, kv) = (architecture.width, architecture.query_width(), architecture.kv_width());
        let (keys, values) = (queries..queries + kv, queries + kv..queries + 2 * kv);
        if architecture.fused {
            let part = |rows| self.projection(&name("attn_qkv"), rows, queries + 2 * kv, width);
            return Ok([part(0..queries)?, part(keys)?, part(values)?]);
        }
        let part = |part: &str, outputs| self.projection(&name(part), 0..outputs, outputs, width);
        Ok([part("attn_q", queries)?, part("attn_k", kv)?, part("attn_v", kv)?])
    }

    /// Some rows of a matrix of `height` rows, and of its bias if there is one.
    fn projection(
        &self,
        name: &str,
        rows: Range<usize>,
        height: usize,
        inputs: usize,
    ) -> Result<Projection, EngineError> {
        let bias = self.optional_vector(&format!("{name}.bias"), height)?.map(|bias| {
            let mut own = bias[rows.clone()].to_vec();
            own.resize(own.len().next_multiple_of(LANES), 0.0);
            own
        });
        Ok(Projection { matrix: self.rows(&format!("{name}.weight"), rows, height, inputs)?, bias })
    }

    fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix, EngineError> {
        self.rows(name, 0..outputs, outputs, inputs)
    }

    fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        height: usize,
        inputs: usize,
    ) -> Result<Matrix, EngineError> {
        let (tensor, bytes) = self.tensor(name, &[height, inputs])?;
        let row_bytes = bytes.len() / height;
        let bytes = &bytes[rows.start * row_bytes..rows.end * row_bytes];
        let Self { map, packed: told, .. } = *self;
        let start = bytes.as_ptr().addr() - map.as_ptr().addr();
        let packed = |range: Range<usize>| {
            release(map, start + range.start..start + range.end);
            told(range.len() as u64);
        };
        Matrix::pack_in_pieces(name, (rows.len(), inputs), tensor.type_id, bytes, self.threads, &packed)
    }

    fn optional_vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, EngineError> {
        self.find(name).map(|_| self.vector(name, length)).transpose()
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, EngineError> {
        fn read<N: Number>(bytes: &[u8]) -> Vec<f32> {
            (0..bytes.len() / N::BYTES).map(|index| N::value(N::at(bytes, index * N::BYTES))).collect()
        }
        let (tensor, bytes) = self.tensor(name, &[length])?;
        match tensor.type_id {
            0 => Ok(read::<Single>(bytes)),
            1 => Ok(read::<Half>(bytes)),
            30 => Ok(read::<Brain>(bytes)),
            other => Err(EngineError::Unsupported {
                what: format!("the format of {name}"),
                found: format!("number {other}"),
                supported: "F32, F16, BF16".to_owned(),
            }),
        }
    }

    /// A tensor of exactly this shape, and its bytes.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<(&TensorInfo, &[u8]), EngineError> {
        let wrong = |detail| EngineError::Inconsistent { what: name.to_owned(), detail };
        let tensor = self.find(name).ok_or_else(|| wrong("the tensor is missing".to_owned()))?;
        if !tensor.shape.iter().copied().eq(shape.iter().map(|side| *side as u64)) {
            return Err(wrong(format!("its shape is {:?}; it must be {shape:?}", tensor.shape)));
        }
        // The header was checked against the file, but the file may have changed since.
        let start = self.gguf.data_offset().checked_add(tensor.offset);
        let range = start.and_then(|start| Some(start as usize..start.checked_add(tensor.bytes)? as usize));
        let bytes = range.and_then(|range| self.map.get(range));
        let bytes =
            bytes.ok_or_else(|| wrong("the file has become shorter than its header says".to_owned()))?;
        self.read.borrow_mut().insert(name.to_owned());
        Ok((tensor, bytes))
    }

    fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.gguf.tensors().iter().find(|tensor| tensor.name == name)
    }

    /// A tensor that was not read would be a part of the model that is left out.
    fn check_nothing_is_left(&self) -> Result<(), EngineError> {
        let read = self.read.borrow();
        match self.gguf.tensors().iter().find(|tensor| !read.contains(&tensor.name)) {
            None => Ok(()),
            Some(tensor) => Err(EngineError::Unsupported {
                what: "a tensor of this architecture".to_owned(),
                found: tensor.name.clone(),
                supported: "only those of the architecture that the file names".to_owned(),
            }),
        }
    }
}

/// Gives back the memory of a part of the file that has been read, so that it is not in memory twice.
#[expect(unsafe_code, reason = "the file is mapped")]
fn release(map: &Mmap, range: Range<usize>) {
    let (advice, length) = (UncheckedAdvice::DontNeed, range.len());
    // SAFETY: the map is of a file and read-only; a page that is dropped is read from the file again when it is next
    // needed, with the same bytes.
    let released = unsafe { map.unchecked_advise_range(advice, range.start, length) };
    if let Err(error) = released {
        tracing::debug!(%error, "the system keeps pages of a model file that are not needed any more");
    }
}
