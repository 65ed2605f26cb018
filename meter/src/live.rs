//! Following a journal that another process writes.

use std::path::{Path, PathBuf};

use alloy::primitives::B256;

use crate::MeterError;
use crate::journal::Reader;
use crate::ledger::Ledger;

/// The ledger of a journal that another process may be writing, without its lock: a dashboard's view of what accrues.
pub struct LiveLedger {
    dir: PathBuf,
    state: Option<(Reader, Ledger)>,
}

impl LiveLedger {
    /// Follows the journal in a meter's directory, which need not have been begun.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), state: None }
    }

    /// Applies what has been written since the last time; answers the number of records.
    ///
    /// # Errors
    /// [`MeterError::Journal`] naming file and offset, if the journal is damaged.
    pub fn refresh(&mut self) -> Result<u64, MeterError> {
        if self.state.is_none() {
            let Some(reader) = Reader::open(&self.dir)? else { return Ok(0) };
            let ledger = Ledger::new(reader.header().begun_at_ms, reader.position(), 1);
            self.state = Some((reader, ledger));
        }
        let mut records = 0;
        if let Some((reader, ledger)) = &mut self.state {
            while let Some(entry) = reader.next_entry()? {
                let applied = ledger.apply(entry.span, &entry.record);
                applied.map_err(|problem| reader.refuse(entry.span, problem))?;
                records += 1;
            }
            ledger.take_changed();
        }
        Ok(records)
    }

    /// What the records read so far add up to; `None` while no journal was begun.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.state.as_ref().map(|(_, ledger)| ledger)
    }

    /// The journal's id; `None` while no journal was begun.
    pub fn journal_id(&self) -> Option<B256> {
        self.state.as_ref().map(|(reader, _)| reader.header().journal)
    }
}
