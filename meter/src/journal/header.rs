//! The header of a segment.

use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use sha2::{Digest, Sha256};

use super::codec::{DecodeError, Fields, PutFields};
use super::frame::ChainHash;
use crate::Deployment;

const MAGIC: [u8; 8] = *b"DVDJRNL1";
/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 8 + 32 + 8 + 20 + 20 + 8 + 8 + 32 + 4;

/// What every segment of a journal begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random bytes made when the journal was begun.
    pub journal: B256,
    /// The contracts that its windows are settled with.
    pub deployment: Deployment,
    /// When the journal was begun, unix milliseconds.
    pub begun_at_ms: u64,
    /// Offset of the segment's first byte in the journal.
    pub(crate) base: u64,
    /// Chain hash before the segment's first record.
    pub(crate) head: ChainHash,
}

/// Why bytes are not a header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("a segment's header has {HEADER_BYTES} bytes, this file has fewer")]
    Short,
    #[error("the file does not begin as a journal segment of a version known here")]
    Magic,
    #[error("the header's checksum does not match")]
    Checksum,
}

impl Header {
    /// The first header of a new journal.
    pub(crate) fn first(journal: B256, deployment: Deployment, begun_at_ms: u64) -> Self {
        let mut header = Self { journal, deployment, begun_at_ms, base: 0, head: [0; 32] };
        header.head = Sha256::digest(&header.encode()[..HEADER_BYTES - 4]).into();
        header
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        let Deployment { chain_id, usage_ledger, payment_channels } = &self.deployment;
        out.put(&MAGIC).put(self.journal.as_slice()).put(&chain_id.to_le_bytes());
        out.put(usage_ledger.as_slice()).put(payment_channels.as_slice());
        out.put(&self.begun_at_ms.to_le_bytes()).put(&self.base.to_le_bytes()).put(&self.head);
        let crc = crc32c::crc32c(&out);
        out.put(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() < HEADER_BYTES {
            return Err(HeaderError::Short);
        }
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        let (magic, header, stored) = Self::fields(bytes).map_err(|_| HeaderError::Short)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        if stored != crc {
            return Err(HeaderError::Checksum);
        }
        Ok(header)
    }

    fn fields(bytes: &[u8]) -> Result<([u8; 8], Self, u32), DecodeError> {
        let mut fields = Fields(bytes);
        let magic = fields.bytes()?;
        let journal = fields.b256()?;
        let deployment = Deployment {
            chain_id: fields.u64()?,
            usage_ledger: fields.address()?,
            payment_channels: fields.address()?,
        };
        let (begun_at_ms, base, head) = (fields.u64()?, fields.u64()?, fields.bytes()?);
        Ok((magic, Self { journal, deployment, begun_at_ms, base, head }, fields.u32()?))
    }

    /// The file of the segment that begins at `base`.
    pub(crate) fn path(dir: &Path, base: u64) -> PathBuf {
        dir.join(format!("{base:020}.journal"))
    }
}
