use std::io::{BufReader, Read, Seek, SeekFrom};

use super::GgufError;

/// Metadata and tensor list may take this much of a file. The largest vocabularies in use take some 10 MiB.
const MAX_HEADER_BYTES: u64 = 256 << 20;

/// Longest single string: chat templates and merges stay far below.
const MAX_STRING_BYTES: u64 = 16 << 20;

/// Little-endian reading that knows how much is left, so that no declared length is believed before the
/// file is known to hold it.
pub(super) struct HeaderReader<R> {
    inner: BufReader<R>,
    position: u64,
    end: u64,
    file_bytes: u64,
}

impl<R: Read + Seek> HeaderReader<R> {
    pub(super) fn new(mut inner: R) -> Result<Self, GgufError> {
        let file_bytes = inner.seek(SeekFrom::End(0))?;
        inner.seek(SeekFrom::Start(0))?;
        let end = file_bytes.min(MAX_HEADER_BYTES);
        Ok(Self { inner: BufReader::with_capacity(1 << 16, inner), position: 0, end, file_bytes })
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, GgufError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `least_bytes` each: refused above `limit`, and when the rest of
    /// the header cannot hold that many.
    pub(super) fn count(&mut self, what: &str, limit: u64, least_bytes: u64) -> Result<u64, GgufError> {
        let count = self.u64(what)?;
        if count > limit {
            return Err(GgufError::TooMuch { what: what.to_owned(), found: count, limit });
        }
        self.require(what, count.saturating_mul(least_bytes))?;
        Ok(count)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, GgufError> {
        let length = self.count(what, MAX_STRING_BYTES, 1)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|error| GgufError::Invalid {
            what: what.to_owned(),
            found: format!("bytes that break at {}", error.utf8_error().valid_up_to()),
            expected: "UTF-8",
        })
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.require(what, N as u64)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, what: &str, bytes: u64) -> Result<(), GgufError> {
        self.require(what, bytes)?;
        // `require` bounds it by MAX_HEADER_BYTES.
        self.inner.seek_relative(bytes as i64)?;
        self.position += bytes;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        self.inner.read_exact(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn require(&self, what: &str, needed: u64) -> Result<(), GgufError> {
        let remaining = self.end - self.position;
        if needed <= remaining {
            return Ok(());
        }
        if self.end < self.file_bytes {
            let found = self.position.saturating_add(needed);
            let what = format!("the header, up to {what},");
            return Err(GgufError::TooMuch { what, found, limit: MAX_HEADER_BYTES });
        }
        Err(GgufError::Truncated { what: what.to_owned(), offset: self.position, needed, remaining })
    }
}
