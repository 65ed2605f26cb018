//! Reading a journal, alone or behind its writer, without the lock.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{self, ChainHash, FrameError, MAX_FRAME};
use super::header::{HEADER_BYTES, Header};
use super::{JOURNAL_DIR, JournalError, Record, Span};

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// A record and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Offsets of its frame.
    pub span: Span,
    /// The record.
    pub record: Record,
}

/// Reads records in order and verifies each one's checksum and place in the chain.
///
/// At the end of a live journal [`Reader::next_entry`] answers `None`, and later what has been written since.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    header: Header,
    path: PathBuf,
    file: File,
    base: u64,
    position: u64,
    head: ChainHash,
    buffer: Vec<u8>,
    start: usize,
}

/// Where a reader stands: the offset of the next record and the chain hash before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) base: u64,
    pub(crate) position: u64,
    pub(crate) head: ChainHash,
}

impl Reader {
    /// A reader at the first record of the journal in a meter's directory; `None` if no journal was begun there.
    ///
    /// # Errors
    /// [`JournalError`] if the first segment is missing, cannot be read or has a damaged header.
    pub fn open(meter_dir: &Path) -> Result<Option<Self>, JournalError> {
        let dir = meter_dir.join(JOURNAL_DIR);
        let reader = Self::open_segment(&dir, 0)?;
        if reader.is_none() && !segment_bases(&dir)?.is_empty() {
            return Err(JournalError::corrupt(&Header::path(&dir, 0), 0, "the first segment is missing"));
        }
        Ok(reader)
    }

    /// A reader at the first record of the segment that holds `offset`.
    pub(crate) fn open_near(meter_dir: &Path, offset: u64) -> Result<Option<Self>, JournalError> {
        let dir = meter_dir.join(JOURNAL_DIR);
        let bases = segment_bases(&dir)?;
        let base = bases.into_iter().filter(|base| *base <= offset).max().unwrap_or(0);
        Self::open_segment(&dir, base)
    }

    fn open_segment(dir: &Path, base: u64) -> Result<Option<Self>, JournalError> {
        let path = Header::path(dir, base);
        let Some((file, header)) = read_header(&path, base)? else { return Ok(None) };
        let (head, position) = (header.head, base + HEADER_BYTES as u64);
        let dir = dir.to_owned();
        Ok(Some(Self { dir, header, path, file, base, position, head, buffer: Vec::new(), start: 0 }))
    }

    /// The journal's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Offset behind the last record read.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn place(&self) -> Place {
        Place { base: self.base, position: self.position, head: self.head }
    }

    /// Bytes behind the last whole record: a record being written, or a torn tail. Meaningful after `None`.
    pub fn tail_bytes(&self) -> Result<u64, JournalError> {
        let length = self.file.metadata().map_err(JournalError::io(&self.path))?.len();
        Ok((self.base + length).saturating_sub(self.position))
    }

    /// The next record, or `None` at the end of what has been written whole.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] naming file and offset, for damage that a death in the middle of a write cannot explain.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        loop {
            if self.buffer.len() - self.start < MAX_FRAME {
                self.refill()?;
            }
            if self.buffer.len() > self.start {
                match frame::decode(&self.buffer[self.start..], &self.head) {
                    Ok(frame) => return Ok(Some(self.take(frame))),
                    Err(error) => return self.examine_tail(error),
                }
            }
            if !self.enter_next_segment()? {
                return Ok(None);
            }
        }
    }

    /// The error that a record, whole but impossible after the ones before it, is.
    pub(crate) fn refuse(&self, span: Span, problem: impl ToString) -> JournalError {
        JournalError::corrupt(&self.path, span.start.saturating_sub(self.base), problem)
    }

    fn take(&mut self, frame: frame::Frame) -> Entry {
        let span = Span { start: self.position, end: self.position + frame.bytes as u64 };
        self.start += frame.bytes;
        self.position = span.end;
        self.head = frame.hash;
        Entry { span, record: frame.record }
    }

    /// Drops what was consumed and reads on behind what is buffered.
    fn refill(&mut self) -> Result<(), JournalError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + READ_BYTES, 0);
        let at = self.position - self.base + kept as u64;
        let read =
            read_up_to(&self.file, &mut self.buffer[kept..], at).map_err(JournalError::io(&self.path))?;
        self.buffer.truncate(kept + read);
        Ok(())
    }

    /// Decides what bytes that are no record are: one that has become whole meanwhile, a torn tail, or damage.
    fn examine_tail(&mut self, error: FrameError) -> Result<Option<Entry>, JournalError> {
        let length = self.file.metadata().map_err(JournalError::io(&self.path))?.len();
        let is_last = !Header::path(&self.dir, self.base + length).exists();
        self.buffer.clear();
        self.start = 0;
        let rest = length.saturating_sub(self.position - self.base);
        let mut bytes = vec![0; rest as usize];
        let at = self.position - self.base;
        let read = read_up_to(&self.file, &mut bytes, at).map_err(JournalError::io(&self.path))?;
        bytes.truncate(read);
        let torn = match frame::decode(&bytes, &self.head) {
            Ok(frame) => {
                self.buffer = bytes;
                return Ok(Some(self.take(frame)));
            }
            Err(FrameError::Broken(_)) => is_last && !frame::any_after_first(&bytes),
            Err(FrameError::Chain | FrameError::Content(_)) => false,
        };
        if torn { Ok(None) } else { Err(JournalError::corrupt(&self.path, at, error)) }
    }

    fn enter_next_segment(&mut self) -> Result<bool, JournalError> {
        let path = Header::path(&self.dir, self.position);
        if self.position == self.base {
            return Ok(false);
        }
        let Some((file, header)) = read_header(&path, self.position)? else { return Ok(false) };
        let same = header.journal == self.header.journal && header.deployment == self.header.deployment;
        if !same || header.head != self.head {
            return Err(JournalError::corrupt(&path, 0, "the segment does not continue the one before it"));
        }
        self.base = self.position;
        self.position += HEADER_BYTES as u64;
        (self.path, self.file) = (path, file);
        self.buffer.clear();
        self.start = 0;
        Ok(true)
    }
}

/// Opens a segment and decodes its header; `None` if the file does not exist.
fn read_header(path: &Path, base: u64) -> Result<Option<(File, Header)>, JournalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io(path)(error)),
    };
    let mut bytes = [0; HEADER_BYTES];
    let read = read_up_to(&file, &mut bytes, 0).map_err(JournalError::io(path))?;
    let header = Header::decode(&bytes[..read]).map_err(|problem| JournalError::corrupt(path, 0, problem))?;
    if header.base != base {
        let problem = format!("the header says that the segment begins at {}", header.base);
        return Err(JournalError::corrupt(path, 0, problem));
    }
    Ok(Some((file, header)))
}

/// Offsets of the segments in a journal's folder, in no order.
fn segment_bases(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JournalError::io(dir)(error)),
    };
    let mut bases = Vec::new();
    for entry in entries {
        let name = entry.map_err(JournalError::io(dir))?.file_name();
        bases.extend(name.to_str().and_then(|name| name.strip_suffix(".journal")?.parse::<u64>().ok()));
    }
    Ok(bases)
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
