//! Reading what a GGUF file says of itself, without believing it.
//!
//! Files come from strangers. Every count and length is compared with what the file can hold before
//! anything is allocated, every tensor must lie inside the file and touch no other. Only then is anything
//! handed to the inference library.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

mod error;
mod reader;
mod rewrite;
mod tensor;
mod value;

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use error::GgufError;
pub(crate) use rewrite::rewrite;
pub use tensor::TensorInfo;
pub use value::Value;

use crate::EngineError;
use reader::HeaderReader;

const MAGIC: [u8; 4] = *b"GGUF";
const MAX_ENTRIES: u64 = 65_536;
const MAX_TENSORS: u64 = 65_536;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 65_536;

/// The checked header of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    path: PathBuf,
    version: u32,
    metadata: HashMap<String, Value>,
    /// Each key with the bytes that its whole entry takes, in the file's order.
    entries: Vec<(String, Range<u64>)>,
    tensors: Vec<TensorInfo>,
    /// The bytes of the tensor list.
    tensor_list: Range<u64>,
    alignment: u64,
    data_offset: u64,
    file_bytes: u64,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let file = open(path)?;
        let mut gguf =
            Self::parse(file).map_err(|source| EngineError::Gguf { path: path.to_owned(), source })?;
        gguf.path = path.to_owned();
        Ok(gguf)
    }

    /// Reads and checks a header from anything seekable.
    pub fn parse<R: Read + Seek>(source: R) -> Result<Self, GgufError> {
        let mut reader = HeaderReader::new(source)?;
        let found = reader.array("the magic number")?;
        if found != MAGIC {
            return Err(GgufError::Magic { found });
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { found: version });
        }
        // A tensor takes at least: name length, dimensions, one side, type, offset; an entry: key length,
        // type, one byte.
        let tensor_count = reader.count("the number of tensors", MAX_TENSORS, 8 + 4 + 8 + 4 + 8)?;
        let entry_count = reader.count("the number of metadata entries", MAX_ENTRIES, 8 + 4 + 1)?;
        let (metadata, entries) = read_entries(&mut reader, entry_count)?;
        let list_start = reader.position();
        let tensors =
            (0..tensor_count).map(|_| TensorInfo::read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let tensor_list = list_start..reader.position();
        let alignment = alignment(&metadata)?;
        let data_offset = tensor_list.end.next_multiple_of(alignment);
        let file_bytes = reader.file_bytes();
        check_layout(&tensors, alignment, data_offset, file_bytes)?;
        Ok(Self {
            path: PathBuf::new(),
            version,
            metadata,
            entries,
            tensors,
            tensor_list,
            alignment,
            data_offset,
            file_bytes,
        })
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The value of a key that is a text.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key that is a count or id.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Integer(number) => (*number).try_into().ok(),
            _ => None,
        }
    }

    /// The value of a key that is a number with a fraction.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// `general.architecture`, which every file must have.
    pub fn architecture(&self) -> Result<&str, EngineError> {
        self.string("general.architecture").ok_or_else(|| EngineError::Inconsistent {
            what: "general.architecture".to_owned(),
            detail: "it must be a text, such as \"llama\"".to_owned(),
        })
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::elements).fold(0, u64::saturating_add)
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// First byte of tensor data.
    pub(crate) fn data_offset(&self) -> u64 {
        self.data_offset
    }
}

/// Opens a file for reading; an absent one has its own error, with the remedy.
pub(crate) fn open(path: &Path) -> Result<File, EngineError> {
    File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => EngineError::Missing { path: path.to_owned() },
        _ => EngineError::Io { action: "read", path: path.to_owned(), source },
    })
}

type Entries = (HashMap<String, Value>, Vec<(String, Range<u64>)>);

fn read_entries<R: Read + Seek>(reader: &mut HeaderReader<R>, count: u64) -> Result<Entries, GgufError> {
    let mut metadata = HashMap::new();
    let mut entries = Vec::new();
    for _ in 0..count {
        let start = reader.position();
        let key = reader.string("a metadata key")?;
        let value = Value::read(reader, &key)?;
        entries.push((key.clone(), start..reader.position()));
        if metadata.insert(key.clone(), value).is_some() {
            return Err(GgufError::Clash { what: "key", name: key, problem: "appears twice".to_owned() });
        }
    }
    Ok((metadata, entries))
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64, GgufError> {
    let invalid = |found: &Value| GgufError::Invalid {
        what: "general.alignment".to_owned(),
        found: format!("{found:?}"),
        expected: "a power of two from 8 to 65536",
    };
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(value @ Value::Integer(number)) => {
            let bytes = u64::try_from(*number).map_err(|_| invalid(value))?;
            let sound = bytes.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&bytes);
            if sound { Ok(bytes) } else { Err(invalid(value)) }
        }
        Some(other) => Err(invalid(other)),
    }
}

/// Every tensor has a name of its own, starts aligned, lies in the file and overlaps no other.
fn check_layout(
    tensors: &[TensorInfo],
    alignment: u64,
    data_offset: u64,
    file_bytes: u64,
) -> Result<(), GgufError> {
    let clash =
        |name: &str, problem: String| GgufError::Clash { what: "tensor", name: name.to_owned(), problem };
    let mut names = std::collections::HashSet::new();
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.offset);
    let mut end = 0;
    for tensor in by_offset {
        if !names.insert(tensor.name.as_str()) {
            return Err(clash(&tensor.name, "appears twice".to_owned()));
        }
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(clash(
                &tensor.name,
                format!("starts at {}, not a multiple of {alignment}", tensor.offset),
            ));
        }
        if tensor.offset < end {
            return Err(clash(&tensor.name, "overlaps another".to_owned()));
        }
        let offset = data_offset.saturating_add(tensor.offset);
        let remaining = file_bytes.saturating_sub(offset);
        if tensor.bytes > remaining {
            let what = format!("tensor {:?}", tensor.name);
            return Err(GgufError::Truncated { what, offset, needed: tensor.bytes, remaining });
        }
        end = tensor.offset + tensor.bytes;
    }
    Ok(())
}
