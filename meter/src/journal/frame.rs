//! Frames: a record with its length, its checksum and its place in the chain.

use sha2::{Digest, Sha256};

use super::codec::{DecodeError, Fields, PutFields};
use super::record::{MAX_FIELDS, Record};

/// SHA-256 of a record's body, which the next record carries.
pub(crate) type ChainHash = [u8; 32];

/// Length and CRC.
const PREFIX: usize = 8;
/// Version, kind and chain hash.
const BODY_HEAD: usize = 2 + 32;
/// Most bytes of a frame.
pub(super) const MAX_FRAME: usize = PREFIX + BODY_HEAD + MAX_FIELDS;
const VERSION: u8 = 1;

/// A decoded frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) record: Record,
    pub(super) hash: ChainHash,
    pub(super) bytes: usize,
}

/// Why there is no frame at a place.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// Length or checksum do not fit, or bytes are missing: not a whole frame.
    #[error("no whole record: {0}")]
    Broken(&'static str),
    /// A whole frame, which does not follow the record before it.
    #[error("the record does not follow the one before it (its chain hash differs)")]
    Chain,
    /// A whole frame of something else.
    #[error(transparent)]
    Content(#[from] DecodeError),
}

/// Writes the frame of `record` into `out`, which is emptied first; answers its chain hash.
pub(super) fn encode(record: &Record, previous: &ChainHash, out: &mut Vec<u8>) -> ChainHash {
    out.clear();
    out.put(&[0; PREFIX]).put(&[VERSION, record.kind()]).put(previous);
    record.encode(out);
    debug_assert!(out.len() <= MAX_FRAME, "MAX_FIELDS is too small for {record:?}");
    let length = ((out.len() - PREFIX) as u32).to_le_bytes();
    let crc = checksum(length, &out[PREFIX..]).to_le_bytes();
    out[..4].copy_from_slice(&length);
    out[4..PREFIX].copy_from_slice(&crc);
    Sha256::digest(&out[PREFIX..]).into()
}

/// Decodes the frame at the front of `bytes`, which must follow a record of chain hash `previous`.
pub(super) fn decode(bytes: &[u8], previous: &ChainHash) -> Result<Frame, FrameError> {
    let body = whole_body(bytes)?;
    let mut fields = Fields(body);
    let (version, kind) = (fields.u8()?, fields.u8()?);
    if version != VERSION {
        return Err(DecodeError::Unknown { field: "record version", value: version }.into());
    }
    if fields.bytes::<32>()? != *previous {
        return Err(FrameError::Chain);
    }
    let record = Record::decode(kind, fields.0)?;
    Ok(Frame { record, hash: Sha256::digest(body).into(), bytes: PREFIX + body.len() })
}

/// Whether a whole frame begins anywhere in `bytes` but at their front.
pub(super) fn any_after_first(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|start| whole_body(&bytes[start..]).is_ok())
}

fn whole_body(bytes: &[u8]) -> Result<&[u8], FrameError> {
    let mut fields = Fields(bytes);
    let (Ok(length), Ok(crc)) = (fields.bytes::<4>(), fields.u32()) else {
        return Err(FrameError::Broken("fewer bytes than a length and a checksum"));
    };
    let size = u32::from_le_bytes(length) as usize;
    if !(BODY_HEAD..=BODY_HEAD + MAX_FIELDS).contains(&size) {
        return Err(FrameError::Broken("its length is out of range"));
    }
    let body = fields.0.get(..size).ok_or(FrameError::Broken("it ends too early"))?;
    if checksum(length, body) != crc {
        return Err(FrameError::Broken("its checksum does not match"));
    }
    Ok(body)
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), body)
}
