//! Opening a journal: verify it, cut its torn tail, close what was left open, write the seals that are missing.

use std::path::Path;

use alloy::primitives::B256;

use crate::journal::{JournalError, Reader, Record, Writer};
use crate::ledger::Ledger;
use crate::meter::{Operator, random};
use crate::slots::Slots;
use crate::{CallRecord, Clock, CloseReason, MeterError, MeterOptions, Usage, seals};

/// What a meter found when it opened its journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Whether the journal was begun just now.
    pub begun: bool,
    /// Records read and verified.
    pub records: u64,
    /// Calls that a dead process had left open, closed now with what their slots had counted.
    pub closed: Vec<CallRecord>,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    /// Windows whose seal file was missing and has been written.
    pub sealed_anew: Vec<u64>,
}

pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) ledger: Ledger,
    pub(crate) slots: Slots,
    pub(crate) recovered: Recovered,
}

/// Opens the journal whose lock the caller holds. Safe to be killed in and to be run again.
pub(crate) fn open(
    dir: &Path,
    options: &MeterOptions,
    operator: &Operator,
    clock: &dyn Clock,
) -> Result<Opened, MeterError> {
    let (mut writer, mut ledger, mut recovered) = match Reader::open(dir)? {
        Some(reader) => resume(dir, options, operator, reader)?,
        None => begin(dir, options, operator, clock)?,
    };
    if let Some(sealed) = seals::newest(dir)?.filter(|sealed| *sealed >= ledger.window()) {
        let (seal, window) = (seals::path(dir, sealed), ledger.window());
        return Err(MeterError::SealAhead { seal, sealed, window });
    }
    recovered.closed = close_leftovers(dir, &mut writer, &mut ledger, clock)?;
    let slots = Slots::open(dir, options.slots)?;
    Ok(Opened { writer, ledger, slots, recovered })
}

fn begin(
    dir: &Path,
    options: &MeterOptions,
    operator: &Operator,
    clock: &dyn Clock,
) -> Result<(Writer, Ledger, Recovered), MeterError> {
    let now_ms = clock.now_ms();
    let id = B256::from(random());
    let writer = Writer::begin(dir, id, operator.deployment, now_ms, options.segment_bytes)?;
    let ledger = Ledger::new(now_ms, writer.position(), options.keep_windows);
    Ok((writer, ledger, Recovered { begun: true, ..Recovered::default() }))
}

fn resume(
    dir: &Path,
    options: &MeterOptions,
    operator: &Operator,
    mut reader: Reader,
) -> Result<(Writer, Ledger, Recovered), MeterError> {
    let header = reader.header().clone();
    if header.deployment != operator.deployment {
        let (found, expected) = (header.deployment, operator.deployment);
        return Err(MeterError::OtherDeployment { dir: dir.to_owned(), found, expected });
    }
    let mut ledger = Ledger::new(header.begun_at_ms, reader.position(), options.keep_windows);
    let mut recovered = Recovered::default();
    let mut unwritten = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        recovered.records += 1;
        let sealed =
            ledger.apply(entry.span, &entry.record).map_err(|problem| reader.refuse(entry.span, problem))?;
        unwritten.extend(sealed.filter(|sealed| !seals::path(dir, sealed.span.window).exists()));
    }
    recovered.cut_bytes = reader.tail_bytes()?;
    let writer = Writer::resume(dir, &header, reader.place(), options.segment_bytes)?;
    for sealed in unwritten {
        let seal = seals::build(dir, header.journal, header.deployment, &sealed)?;
        seals::write(dir, &seal)?;
        recovered.sealed_anew.push(seal.window);
    }
    Ok((writer, ledger, recovered))
}

/// Closes every open call with the count of the slot that has its id; a call without a slot had counted nothing.
fn close_leftovers(
    dir: &Path,
    writer: &mut Writer,
    ledger: &mut Ledger,
    clock: &dyn Clock,
) -> Result<Vec<CallRecord>, MeterError> {
    let leftovers = Slots::leftovers(dir)?;
    let mut closed = Vec::new();
    for open in ledger.open_records() {
        let slot = leftovers.iter().find(|(call, _)| *call == open.call);
        let usage = slot.map_or(Usage::default(), |(_, usage)| *usage);
        let salt = B256::from(random());
        let record = open.close(clock.now_ms(), ledger.window(), usage, CloseReason::Recovered, salt);
        let span = writer.append(&Record::Close(record))?;
        let applied = ledger.apply(span, &Record::Close(record));
        applied.map_err(|problem| JournalError::corrupt(writer.path(), span.start, problem))?;
        closed.push(record);
    }
    let synced = writer.file().sync_data();
    synced.map_err(JournalError::io(writer.path()))?;
    Ok(closed)
}
