//! Seals and proofs, read back from the journal; seal files.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use alloy::primitives::B256;

use crate::journal::{JournalError, Reader, Record};
use crate::ledger::{SealedWindow, Spans, WindowSpan};
use crate::seal::{self, Leaves};
use crate::sumtree::{self, SumOverflow};
use crate::{CallId, CallRecord, Deployment, InclusionProof, MeterError, Seal, receipt};

/// Name of the folder of seals in a meter's directory.
const SEALS_DIR: &str = "seals";
/// A call's id may be this much younger than the seal behind it, when the clock was set back meanwhile.
const CLOCK_STEP_MS: u64 = 60_000;

/// The file of a window's seal in a meter's directory.
pub(crate) fn path(dir: &Path, window: u64) -> PathBuf {
    dir.join(SEALS_DIR).join(format!("{window}.json"))
}

/// The seal of a window, its trees built from the journal.
pub(crate) fn build(
    dir: &Path,
    journal: B256,
    deployment: Deployment,
    sealed: &SealedWindow,
) -> Result<Seal, MeterError> {
    let mut leaves = Leaves::default();
    each_close(dir, &sealed.span, |record| {
        leaves.push(record, journal);
    })?;
    seal::seal(journal, deployment, sealed, &leaves).map_err(|problem| overflow(dir, problem))
}

/// Writes a seal: whole and on the disk, or not at all.
pub(crate) fn write(dir: &Path, seal: &Seal) -> Result<(), MeterError> {
    let path = path(dir, seal.window);
    let folder = dir.join(SEALS_DIR);
    std::fs::create_dir_all(&folder).map_err(MeterError::file(&folder))?;
    let mut json = serde_json::to_vec_pretty(seal).map_err(|error| MeterError::file(&path)(error.into()))?;
    json.push(b'\n');
    let draft = path.with_extension("draft");
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(&json)?;
        file.sync_all()
    });
    written.map_err(MeterError::file(&draft))?;
    std::fs::rename(&draft, &path).map_err(MeterError::file(&path))?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(MeterError::file(&folder))
}

/// Reads a seal file; `None` if there is none.
///
/// # Errors
/// [`MeterError::File`] if it is not a seal, or its digest is not its content's.
pub(crate) fn read(dir: &Path, window: u64) -> Result<Option<Seal>, MeterError> {
    let path = path(dir, window);
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(MeterError::file(&path)(error)),
    };
    let bad = |problem: String| MeterError::File { path: path.clone(), problem };
    let seal: Seal = serde_json::from_slice(&json).map_err(|error| bad(format!("not a seal: {error}")))?;
    let digest = seal.compute_digest();
    if digest != seal.digest {
        return Err(bad(format!("its digest is {}, but its content has {digest}", seal.digest)));
    }
    Ok(Some(seal))
}

/// The highest window that has a seal file.
pub(crate) fn newest(dir: &Path) -> Result<Option<u64>, MeterError> {
    let folder = dir.join(SEALS_DIR);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(MeterError::file(&folder)(error)),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry.map_err(MeterError::file(&folder))?.file_name();
        let window = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
        newest = newest.max(window);
    }
    Ok(newest)
}

/// A closed call.
pub(crate) fn find_call(dir: &Path, spans: &Spans, call: CallId) -> Result<CallRecord, MeterError> {
    let made_ms = call.unix_ms();
    let since = spans.sealed.iter().find(|span| span.sealed_at_ms.saturating_add(CLOCK_STEP_MS) >= made_ms);
    let first_offset = since.map_or(spans.open_offset, |span| span.first_offset);
    let mut reader = Reader::open_near(dir, first_offset)?.ok_or(MeterError::UnknownCall(call))?;
    while let Some(entry) = reader.next_entry()? {
        match entry.record {
            Record::Close(record) if record.call == call => return Ok(record),
            _ => {}
        }
    }
    Err(MeterError::UnknownCall(call))
}

/// Proof that a closed call is in its window's root.
pub(crate) fn prove(
    dir: &Path,
    journal: B256,
    spans: &Spans,
    call: CallId,
) -> Result<InclusionProof, MeterError> {
    let record = find_call(dir, spans, call)?;
    let window = record.window;
    let span = spans.sealed.get(window as usize).ok_or(MeterError::NotSealed { call, window })?;
    let mut leaves = Leaves::default();
    let mut index = 0;
    each_close(dir, span, |close| {
        let place = leaves.push(close, journal);
        if close.call == call {
            index = place;
        }
    })?;
    let leaves = leaves.of(&record);
    let proved = sumtree::proof(leaves, index).and_then(|siblings| Ok((siblings, sumtree::root(leaves)?)));
    let (siblings, root) = proved.map_err(|problem| overflow(dir, problem))?;
    let receipt = receipt::receipt(&record, journal);
    Ok(InclusionProof { record, receipt, index: index as u64, leaves: leaves.len() as u64, siblings, root })
}

/// Visits a sealed window's CLOSE records in order.
fn each_close(dir: &Path, span: &WindowSpan, mut visit: impl FnMut(&CallRecord)) -> Result<(), MeterError> {
    let Some(mut reader) = Reader::open_near(dir, span.first_offset)? else { return Ok(()) };
    while reader.position() < span.last_offset {
        let Some(entry) = reader.next_entry()? else {
            let problem = format!(
                "the journal ends before {}, where window {} was sealed",
                span.last_offset, span.window
            );
            return Err(JournalError::corrupt(dir, reader.position(), problem).into());
        };
        match &entry.record {
            Record::Close(record) if entry.span.start >= span.first_offset => visit(record),
            _ => {}
        }
    }
    Ok(())
}

fn overflow(dir: &Path, problem: SumOverflow) -> MeterError {
    MeterError::File { path: dir.to_owned(), problem: problem.to_string() }
}
