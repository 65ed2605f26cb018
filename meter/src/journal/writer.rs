//! Appending records. One `write(2)` each: what it has taken outlives the process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::B256;

use super::frame::{self, ChainHash, MAX_FRAME};
use super::header::{HEADER_BYTES, Header};
use super::reader::Place;
use super::{JOURNAL_DIR, JournalError, Record};
use crate::Deployment;

/// Where a frame lies in the journal: offsets of its first byte and behind its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// The end of a journal. Whoever has it holds the directory's lock.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    header: Header,
    path: PathBuf,
    file: Arc<File>,
    position: u64,
    head: ChainHash,
    segment_bytes: u64,
    scratch: Vec<u8>,
}

impl Writer {
    /// Begins a journal in a meter's directory.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub(crate) fn begin(
        meter_dir: &Path,
        journal: B256,
        deployment: Deployment,
        now_ms: u64,
        segment_bytes: u64,
    ) -> Result<Self, JournalError> {
        let dir = meter_dir.join(JOURNAL_DIR);
        std::fs::create_dir_all(&dir).map_err(JournalError::io(&dir))?;
        let header = Header::first(journal, deployment, now_ms);
        let (path, file) = create_segment(&dir, &header)?;
        Ok(Self::at_end(dir, header, path, file, segment_bytes))
    }

    /// Continues the journal of `header` at `place`, cutting what lies behind it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub(crate) fn resume(
        meter_dir: &Path,
        header: &Header,
        place: Place,
        segment_bytes: u64,
    ) -> Result<Self, JournalError> {
        let dir = meter_dir.join(JOURNAL_DIR);
        let path = Header::path(&dir, place.base);
        let file = OpenOptions::new().write(true).open(&path).map_err(JournalError::io(&path))?;
        // What was read back may not have reached the disk before the last writer died.
        let synced = file.set_len(place.position - place.base).and_then(|()| file.sync_all());
        synced.map_err(JournalError::io(&path))?;
        let header = Header { base: place.base, head: place.head, ..header.clone() };
        let mut writer = Self::at_end(dir, header, path, file, segment_bytes);
        writer.position = place.position;
        Ok(writer)
    }

    fn at_end(dir: PathBuf, header: Header, path: PathBuf, file: File, segment_bytes: u64) -> Self {
        let (position, head) = (header.base + HEADER_BYTES as u64, header.head);
        let scratch = Vec::with_capacity(MAX_FRAME);
        Self { dir, header, path, file: Arc::new(file), position, head, segment_bytes, scratch }
    }

    /// The journal's id.
    pub fn journal(&self) -> B256 {
        self.header.journal
    }

    /// When the journal was begun, unix milliseconds.
    pub fn begun_at_ms(&self) -> u64 {
        self.header.begun_at_ms
    }

    /// Offset behind the last record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The segment being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes a record behind the last one. On error nothing was appended: the next attempt writes over what a partial
    /// write left, and a reader takes that for a torn tail.
    ///
    /// # Errors
    /// [`JournalError::Io`], a full disk first of all.
    pub fn append(&mut self, record: &Record) -> Result<Span, JournalError> {
        let mut frame = std::mem::take(&mut self.scratch);
        let head = frame::encode(record, &self.head, &mut frame);
        let written = self.write(&frame);
        self.scratch = frame;
        let span = written?;
        self.position = span.end;
        self.head = head;
        Ok(span)
    }

    /// Puts another file in the segment's place and answers it.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: Arc<File>) -> Arc<File> {
        std::mem::replace(&mut self.file, file)
    }

    fn write(&mut self, frame: &[u8]) -> Result<Span, JournalError> {
        let size = frame.len() as u64;
        let used = self.position - self.header.base;
        if used > HEADER_BYTES as u64 && used + size > self.segment_bytes {
            self.roll()?;
        }
        let at = self.position - self.header.base;
        self.file.write_all_at(frame, at).map_err(JournalError::io(&self.path))?;
        Ok(Span { start: self.position, end: self.position + size })
    }

    /// Ends the segment, with everything in it on the disk, and begins the next.
    fn roll(&mut self) -> Result<(), JournalError> {
        let length = self.position - self.header.base;
        let ended = self.file.set_len(length).and_then(|()| self.file.sync_all());
        ended.map_err(JournalError::io(&self.path))?;
        let header = Header { base: self.position, head: self.head, ..self.header.clone() };
        let (path, file) = create_segment(&self.dir, &header)?;
        self.position += HEADER_BYTES as u64;
        (self.header, self.path, self.file) = (header, path, Arc::new(file));
        Ok(())
    }
}

/// Makes a segment appear whole, with its header, or not at all.
fn create_segment(dir: &Path, header: &Header) -> Result<(PathBuf, File), JournalError> {
    let path = Header::path(dir, header.base);
    let draft = path.with_extension("draft");
    let options = || OpenOptions::new().write(true).create(true).truncate(true).open(&draft);
    let file = options().map_err(JournalError::io(&draft))?;
    let written = file.write_all_at(&header.encode(), 0).and_then(|()| file.sync_all());
    written.map_err(JournalError::io(&draft))?;
    std::fs::rename(&draft, &path).map_err(JournalError::io(&path))?;
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(JournalError::io(dir))?;
    Ok((path, file))
}
