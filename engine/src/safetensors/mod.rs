//! Reading safetensors files without believing them.
//!
//! Files come from strangers. The header is bounded, every tensor must lie inside the file, as long as its shape says,
//! side by side with the next. The file is mapped: only tensors that are asked for are read.
//!
//! Format: <https://github.com/huggingface/safetensors>; its own crate parses the header.

mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use ::safetensors::Dtype;
pub use error::SafeTensorsError;
use half::{bf16, f16};
use memmap2::Mmap;

use crate::EngineError;
use crate::gguf;

/// Longest header: that of a model of some ten thousand tensors. Parsing takes a small multiple of it.
const MAX_HEADER_BYTES: u64 = 4 << 20;
const MAX_TENSORS: usize = 65_536;
const MAX_DIMENSIONS: usize = 8;
/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// Where a tensor lies and how it is laid out: little-endian, rows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Elements per dimension, outermost first.
    pub shape: Vec<usize>,
    /// First byte and the byte after the last, from the start of the file.
    range: (usize, usize),
}

/// The checked header of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads and checks the header of a whole file.
    pub fn parse(file: &[u8]) -> Result<Self, SafeTensorsError> {
        let found = file.len() as u64;
        let Some(length) = file.first_chunk::<LENGTH_BYTES>() else {
            return Err(SafeTensorsError::Truncated { needed: LENGTH_BYTES as u64, found });
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES {
            let what = "the header's length".to_owned();
            return Err(SafeTensorsError::TooMuch { what, found: length, limit: MAX_HEADER_BYTES });
        }
        let needed = length + LENGTH_BYTES as u64;
        if needed > found {
            return Err(SafeTensorsError::Truncated { needed, found });
        }
        let (_, header) = ::safetensors::SafeTensors::read_metadata(file)
            .map_err(|error| SafeTensorsError::Malformed(error.to_string()))?;
        let listed = header.tensors();
        if listed.len() > MAX_TENSORS {
            let (found, limit) = (listed.len() as u64, MAX_TENSORS as u64);
            let what = "the number of tensors".to_owned();
            return Err(SafeTensorsError::TooMuch { what, found, limit });
        }
        let start = needed as usize;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in listed {
            if tensor.shape.len() > MAX_DIMENSIONS {
                let (found, limit) = (tensor.shape.len() as u64, MAX_DIMENSIONS as u64);
                let what = format!("tensor {name:?}'s number of dimensions");
                return Err(SafeTensorsError::TooMuch { what, found, limit });
            }
            // The crate has checked that these lie in the file.
            let range = (start + tensor.data_offsets.0, start + tensor.data_offsets.1);
            tensors.insert(name, TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), range });
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { tensors, metadata })
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// What the file says of itself under `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// A mapped file with a checked header.
#[derive(Debug)]
pub struct SafeTensors {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl SafeTensors {
    /// Maps the file at `path` and checks its header.
    #[expect(unsafe_code, reason = "the file is mapped")]
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let file = gguf::open(path)?;
        let failed = |source| EngineError::Io { action: "read", path: path.to_owned(), source };
        // SAFETY: the map is read-only, and what is read of it is bytes, valid whatever they are. Whoever cuts the file
        // short ends the process, as with any program that it is running.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let header = Header::parse(&map)
            .map_err(|source| EngineError::SafeTensors { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), map, header })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// What the file says of its tensors.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of a tensor.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (start, end) = self.header.tensors.get(name)?.range;
        self.map.get(start..end)
    }

    /// The values of a tensor of F32, F16 or BF16, which must have this shape and be finite.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EngineError> {
        let wrong = |detail: String| EngineError::Inconsistent { what: name.to_owned(), detail };
        let missing = || wrong("the tensor is missing".to_owned());
        let info = self.header.tensors.get(name).ok_or_else(missing)?;
        if info.shape != shape {
            return Err(wrong(format!("its shape is {:?}; it must be {shape:?}", info.shape)));
        }
        let bytes = self.bytes(name).ok_or_else(missing)?;
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
            Dtype::F16 => {
                bytes.as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two).into()).collect()
            }
            Dtype::BF16 => {
                bytes.as_chunks::<2>().0.iter().map(|two| bf16::from_le_bytes(*two).into()).collect()
            }
            other => return Err(wrong(format!("its type is {other}; it must be F32, F16 or BF16"))),
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(wrong(format!("value {index} is {}; all must be finite", values[index]))),
        }
    }
}
