use std::io::{Read, Seek};

use candle_core::quantized::GgmlDType;

use super::GgufError;
use super::reader::HeaderReader;

/// Longest tensor name; ggml itself allows 63 bytes.
const MAX_NAME_BYTES: usize = 256;

/// Where a tensor lies in the file and how it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Elements per dimension, outermost first (rows, columns).
    pub shape: Vec<u64>,
    /// The format's number of its element type.
    pub type_id: u32,
    /// First byte, from the start of the tensor data.
    pub offset: u64,
    /// Bytes that it takes.
    pub bytes: u64,
}

impl TensorInfo {
    pub(super) fn read<R: Read + Seek>(reader: &mut HeaderReader<R>) -> Result<Self, GgufError> {
        let name = reader.string("a tensor's name")?;
        if name.len() > MAX_NAME_BYTES {
            let (found, limit) = (name.len() as u64, MAX_NAME_BYTES as u64);
            return Err(GgufError::TooMuch { what: "a tensor's name length".to_owned(), found, limit });
        }
        let dimensions = reader.u32(&name)?;
        if !(1..=4).contains(&dimensions) {
            return Err(invalid(&name, "number of dimensions", dimensions.to_string(), "from 1 to 4"));
        }
        let mut shape = (0..dimensions).map(|_| reader.u64(&name)).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let type_id = reader.u32(&name)?;
        let offset = reader.u64(&name)?;
        let bytes = size(&name, &shape, type_id)?;
        Ok(Self { name, shape, type_id, offset, bytes })
    }

    /// Number of elements; `read` made sure that it fits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// candle's name of the element type.
    pub(crate) fn dtype(&self) -> Option<GgmlDType> {
        dtype(self.type_id)
    }
}

/// Bytes of a tensor, for shapes whose rows are whole blocks.
fn size(name: &str, shape: &[u64], type_id: u32) -> Result<u64, GgufError> {
    let dtype = dtype(type_id).ok_or_else(|| {
        invalid(name, "element type", type_id.to_string(), "F32, F16, BF16, Q4_0 to Q8_1 or Q2_K to Q8_K")
    })?;
    let shown = || format!("{shape:?}");
    let elements = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
    let elements = elements
        .filter(|count| *count > 0)
        .ok_or_else(|| invalid(name, "shape", shown(), "of 1 to 2^64 elements"))?;
    let block = dtype.block_size() as u64;
    if !shape.last().is_some_and(|columns| columns.is_multiple_of(block)) {
        return Err(invalid(name, "shape", shown(), "of rows that are whole blocks of its type"));
    }
    (elements / block)
        .checked_mul(dtype.type_size() as u64)
        .ok_or_else(|| invalid(name, "shape", shown(), "below 2^64 bytes"))
}

fn dtype(type_id: u32) -> Option<GgmlDType> {
    Some(match type_id {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

fn invalid(name: &str, what: &str, found: String, expected: &'static str) -> GgufError {
    GgufError::Invalid { what: format!("tensor {name:?}'s {what}"), found, expected }
}
