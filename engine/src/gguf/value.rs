use std::io::{Read, Seek};

use super::GgufError;
use super::reader::HeaderReader;

/// Most elements of one array: ten times the largest vocabulary in use.
const MAX_ARRAY_ELEMENTS: u64 = 4 << 20;

/// A metadata value. Integers of all widths are widened; of arrays, only what tokenizers need is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer type.
    Integer(i128),
    /// f32 or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A text.
    String(String),
    /// An array of texts.
    Strings(Vec<String>),
    /// An array of 32-bit integers, signed or not.
    Integers(Vec<i64>),
    /// An array of f32.
    Floats(Vec<f32>),
    /// An array of another type: checked for length, not kept.
    Skipped {
        /// How many elements it has.
        elements: u64,
    },
}

/// The format's type numbers, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read<R: Read + Seek>(reader: &mut HeaderReader<R>, key: &str) -> Result<Self, GgufError> {
        let number = reader.u32(key)?;
        Self::ALL.get(number as usize).copied().ok_or_else(|| GgufError::Invalid {
            what: format!("the type of {key:?}"),
            found: number.to_string(),
            expected: "a type number from 0 to 12",
        })
    }

    /// Fewest bytes that a value takes in the file.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl Value {
    /// Reads the type and value of `key`.
    pub(super) fn read<R: Read + Seek>(reader: &mut HeaderReader<R>, key: &str) -> Result<Self, GgufError> {
        match Kind::read(reader, key)? {
            Kind::Array => Self::read_array(reader, key),
            kind => Self::read_scalar(reader, key, kind),
        }
    }

    fn read_scalar<R: Read + Seek>(
        reader: &mut HeaderReader<R>,
        key: &str,
        kind: Kind,
    ) -> Result<Self, GgufError> {
        Ok(match kind {
            Kind::U8 => Self::Integer(reader.u8(key)?.into()),
            Kind::I8 => Self::Integer(i8::from_le_bytes(reader.array(key)?).into()),
            Kind::U16 => Self::Integer(u16::from_le_bytes(reader.array(key)?).into()),
            Kind::I16 => Self::Integer(i16::from_le_bytes(reader.array(key)?).into()),
            Kind::U32 => Self::Integer(reader.u32(key)?.into()),
            Kind::I32 => Self::Integer(i32::from_le_bytes(reader.array(key)?).into()),
            Kind::U64 => Self::Integer(reader.u64(key)?.into()),
            Kind::I64 => Self::Integer(i64::from_le_bytes(reader.array(key)?).into()),
            Kind::F32 => Self::Float(f32::from_le_bytes(reader.array(key)?).into()),
            Kind::F64 => Self::Float(f64::from_le_bytes(reader.array(key)?)),
            Kind::Bool => Self::Bool(reader.u8(key)? != 0),
            Kind::String => Self::String(reader.string(key)?),
            Kind::Array => return Self::read_array(reader, key),
        })
    }

    fn read_array<R: Read + Seek>(reader: &mut HeaderReader<R>, key: &str) -> Result<Self, GgufError> {
        let kind = Kind::read(reader, key)?;
        if kind == Kind::Array {
            return Err(GgufError::Invalid {
                what: format!("the type of {key:?}"),
                found: "an array of arrays".to_owned(),
                expected: "a scalar or an array of scalars",
            });
        }
        let elements = reader.count(key, MAX_ARRAY_ELEMENTS, kind.least_bytes())?;
        let each = 0..elements;
        Ok(match kind {
            Kind::String => Self::Strings(each.map(|_| reader.string(key)).collect::<Result<_, _>>()?),
            Kind::U32 => {
                Self::Integers(each.map(|_| Ok(reader.u32(key)?.into())).collect::<Result<_, GgufError>>()?)
            }
            Kind::I32 => {
                let one = |_| Ok(i32::from_le_bytes(reader.array(key)?).into());
                Self::Integers(each.map(one).collect::<Result<_, GgufError>>()?)
            }
            Kind::F32 => {
                let one = |_| Ok(f32::from_le_bytes(reader.array(key)?));
                Self::Floats(each.map(one).collect::<Result<_, GgufError>>()?)
            }
            other => {
                reader.skip(key, elements * other.least_bytes())?;
                Self::Skipped { elements }
            }
        })
    }
}
