//! Writing a copy of a GGUF file with other metadata.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::{Gguf, MAGIC, open};
use crate::EngineError;

/// The format's number of the text type.
const STRING: u32 = 8;

/// Copies the file that `gguf` was read from to `out`, with `texts` in place of, or beside, its entries of
/// those keys. Everything else, the tensors above all, is copied to the byte. The copy is made beside
/// `out` and renamed, so that `out` is never half a file.
pub(crate) fn rewrite(gguf: &Gguf, out: &Path, texts: &[(&str, &str)]) -> Result<(), EngineError> {
    let mut source = BufReader::with_capacity(1 << 20, open(&gguf.path)?);
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source: io::Error| EngineError::Io { action: "write", path: out.to_owned(), source };
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    copy(gguf, &mut source, part.as_file_mut(), texts).map_err(failed)?;
    part.as_file().sync_all().map_err(failed)?;
    part.persist(out).map_err(|error| failed(error.error))?;
    Ok(())
}

fn copy(
    gguf: &Gguf,
    source: &mut BufReader<File>,
    part: &mut File,
    texts: &[(&str, &str)],
) -> io::Result<()> {
    let replaced = |key: &str| texts.iter().any(|(name, _)| *name == key);
    let kept: Vec<_> = gguf.entries.iter().filter(|(key, _)| !replaced(key)).collect();
    let mut out = Counted { inner: BufWriter::with_capacity(1 << 20, part), written: 0 };
    out.write_all(&MAGIC)?;
    out.write_all(&gguf.version.to_le_bytes())?;
    out.write_all(&(gguf.tensors.len() as u64).to_le_bytes())?;
    out.write_all(&((kept.len() + texts.len()) as u64).to_le_bytes())?;
    for (_, range) in kept {
        copy_range(source, &mut out, range.clone())?;
    }
    for (key, text) in texts {
        write_text(&mut out, key)?;
        out.write_all(&STRING.to_le_bytes())?;
        write_text(&mut out, text)?;
    }
    copy_range(source, &mut out, gguf.tensor_list.clone())?;
    let padding = out.written.next_multiple_of(gguf.alignment) - out.written;
    io::copy(&mut io::repeat(0).take(padding), &mut out)?;
    copy_range(source, &mut out, gguf.data_offset.min(gguf.file_bytes)..gguf.file_bytes)?;
    out.flush()
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

fn copy_range(source: &mut (impl Read + Seek), out: &mut impl Write, range: Range<u64>) -> io::Result<()> {
    source.seek(SeekFrom::Start(range.start))?;
    let length = range.end - range.start;
    let copied = io::copy(&mut source.take(length), out)?;
    if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

struct Counted<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
