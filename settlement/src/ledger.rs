//! Settlement's memory: which windows and batches have come how far, and every channel lane's total.
//!
//! One redb file, held by one process. Every step is one durable transaction that compares the stored state with the
//! expected one first; its effect comes after. The file can be lost: read again from the seals it fills with the same
//! figures, and what the chain already has is recognised there.

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::records::{BatchRecord, LaneRecord, RedeemRow, WindowKey, WindowRecord};
use crate::transitions::{Event, Progress, State};
use crate::{Error, Result};

type Table<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// journal ‖ window → [`WindowRecord`].
const WINDOWS: Table = TableDefinition::new("windows");
/// journal → the lowest window that is not confirmed, and the next that is to be sealed.
const JOURNALS: Table = TableDefinition::new("journals");
/// channel ‖ model → [`LaneRecord`].
const LANES: Table = TableDefinition::new("lanes");
/// number → [`BatchRecord`] of a batch under way.
const BATCHES: Table = TableDefinition::new("batches");
/// number → [`BatchRecord`] of a batch that is confirmed.
const DONE: Table = TableDefinition::new("batches_done");
/// `identity` → whose ledger this is.
const META: Table = TableDefinition::new("meta");

const IDENTITY: &[u8] = b"identity";

/// How far a journal has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalCursor {
    /// Every window below it is confirmed.
    pub unconfirmed: u64,
    /// The window to be read next.
    pub next: u64,
}

/// The settlement ledger. See the module's text.
pub struct Ledger {
    db: Database,
    path: PathBuf,
}

impl Ledger {
    /// Opens the ledger, or begins one, for the deployment and operator that `identity` describes.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open, [`Error::ForeignLedger`] if it is another deployment's,
    /// [`Error::Store`].
    pub fn open(path: &Path, identity: &str) -> Result<Self> {
        let db = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::Locked { path: path.into() },
            other => Error::store(path, other),
        })?;
        let ledger = Self { db, path: path.into() };
        let found = ledger.write(|txn| {
            for table in [WINDOWS, JOURNALS, LANES, BATCHES, DONE] {
                txn.open_table(table)?;
            }
            let mut meta = txn.open_table(META)?;
            let found =
                meta.get(IDENTITY)?.map(|stored| String::from_utf8_lossy(stored.value()).into_owned());
            if found.is_none() {
                meta.insert(IDENTITY, identity.as_bytes())?;
            }
            Ok(found)
        })?;
        match found {
            Some(found) if found != identity => {
                Err(Error::ForeignLedger { path: path.into(), expected: identity.into(), found })
            }
            _ => Ok(ledger),
        }
    }

    /// Takes in a sealed window: `totals` turns the stored lanes that the seal touches into their new totals. Returns
    /// `false`, and changes nothing, if the window is known already.
    ///
    /// # Errors
    /// [`Error::SealChanged`], [`Error::SealGap`], [`Error::Overflow`], [`Error::Store`].
    pub fn take_in(&self, seal: crate::seals::SealedWindow, now_ms: u64) -> Result<bool> {
        let key = seal.key;
        self.write(|txn| {
            if let Some(known) = get::<WindowRecord>(txn, WINDOWS, &window_id(key))? {
                if known.seal_digest == seal.digest {
                    return Ok(false);
                }
                return Err(Error::SealChanged { key, stored: known.seal_digest, found: seal.digest }.into());
            }
            let mut cursor: JournalCursor = get(txn, JOURNALS, key.journal.as_slice())?.unwrap_or_default();
            if key.window != cursor.next {
                return Err(Error::SealGap { found: key, expected: cursor.next }.into());
            }
            cursor.next += 1;
            put(txn, JOURNALS, key.journal.as_slice(), &cursor)?;
            let mut lanes = Vec::with_capacity(seal.lanes.len());
            for touched in &seal.lanes {
                let id = lane_id(touched.channel, touched.model);
                let stored: Option<LaneRecord> = get(txn, LANES, &id)?;
                let record = touched.added_to(stored, now_ms)?;
                lanes.push(record.total());
                put(txn, LANES, &id, &record)?;
            }
            let record = WindowRecord {
                key,
                seal_digest: seal.digest,
                progress: Progress::begin(State::Sealed, now_ms),
                rows: seal.rows.clone(),
                lanes,
                claims: Vec::new(),
                gas_used: 0,
            };
            put(txn, WINDOWS, &window_id(key), &record)?;
            Ok(true)
        })
    }

    /// Moves a window by `event` if it still is in state `from`, with `change` made in the same transaction.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is in another state, [`Error::Transition`], [`Error::Store`].
    pub fn advance_window(
        &self,
        key: WindowKey,
        from: State,
        event: Event,
        now_ms: u64,
        change: impl FnOnce(&mut WindowRecord),
    ) -> Result<WindowRecord> {
        self.write(|txn| {
            let id = window_id(key);
            let stored: Option<WindowRecord> = get(txn, WINDOWS, &id)?;
            let found = stored.as_ref().map(WindowRecord::state);
            let Some(mut record) = stored.filter(|record| record.state() == from) else {
                return Err(Error::Conflict { what: key.to_string(), expected: from, found }.into());
            };
            record.progress = record.progress.after(event, now_ms)?;
            change(&mut record);
            put(txn, WINDOWS, &id, &record)?;
            if event == Event::Sign {
                store_claims(txn, &record.claims)?;
            }
            move_cursor(txn, &record, event)?;
            Ok(record)
        })
    }

    /// Begins a batch in state [`State::Signed`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn begin_batch(&self, rows: Vec<RedeemRow>, now_ms: u64) -> Result<BatchRecord> {
        self.write(|txn| {
            let number = last_number(txn, BATCHES)?.max(last_number(txn, DONE)?).map_or(0, |last| last + 1);
            let progress = Progress::begin(State::Signed, now_ms);
            let record = BatchRecord { number, progress, rows, gas_used: 0 };
            put(txn, BATCHES, &number.to_be_bytes(), &record)?;
            Ok(record)
        })
    }

    /// Moves a batch by `event` if it still is in state `from`; `lane` changes each of its lanes in the same transaction.
    ///
    /// # Errors
    /// As [`Ledger::advance_window`].
    pub fn advance_batch(
        &self,
        number: u64,
        from: State,
        event: Event,
        now_ms: u64,
        change: impl FnOnce(&mut BatchRecord),
        mut lane: impl FnMut(&mut LaneRecord),
    ) -> Result<BatchRecord> {
        self.write(|txn| {
            let id = number.to_be_bytes();
            let stored: Option<BatchRecord> = get(txn, BATCHES, &id)?;
            let found = stored.as_ref().map(BatchRecord::state);
            let Some(mut record) = stored.filter(|record| record.state() == from) else {
                return Err(Error::Conflict { what: format!("batch {number}"), expected: from, found }.into());
            };
            record.progress = record.progress.after(event, now_ms)?;
            change(&mut record);
            for row in &record.rows {
                let id = lane_id(row.channel, row.model);
                if let Some(mut stored) = get::<LaneRecord>(txn, LANES, &id)? {
                    lane(&mut stored);
                    put(txn, LANES, &id, &stored)?;
                }
            }
            if record.state() == State::Confirmed {
                txn.open_table(BATCHES)?.remove(id.as_slice())?;
                put(txn, DONE, &id, &record)?;
            } else {
                put(txn, BATCHES, &id, &record)?;
            }
            Ok(record)
        })
    }

    /// Stores what the chain says a lane has paid, in base units.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_lane_paid(&self, channel: B256, model: B256, paid_units: u128) -> Result<()> {
        self.write(|txn| {
            let id = lane_id(channel, model);
            if let Some(mut lane) = get::<LaneRecord>(txn, LANES, &id)? {
                lane.paid_units = paid_units;
                put(txn, LANES, &id, &lane)?;
            }
            Ok(())
        })
    }

    /// The journals that were ever seen, with how far each has come.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn journals(&self) -> Result<Vec<(B256, JournalCursor)>> {
        self.read(JOURNALS, .., |id, value| Ok((B256::left_padding_from(id), decode(value)?)))
    }

    /// A journal's windows from `from` on, in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn windows_from(&self, journal: B256, from: u64) -> Result<Vec<WindowRecord>> {
        let first = window_id(WindowKey { journal, window: from });
        let last = window_id(WindowKey { journal, window: u64::MAX });
        self.read(WINDOWS, first.as_slice()..=last.as_slice(), |_, value| decode(value))
    }

    /// One window.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn window(&self, key: WindowKey) -> Result<Option<WindowRecord>> {
        let id = window_id(key);
        let found = self.read(WINDOWS, id.as_slice()..=id.as_slice(), |_, value| decode(value))?;
        Ok(found.into_iter().next())
    }

    /// Every channel lane.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn lanes(&self) -> Result<Vec<LaneRecord>> {
        self.read(LANES, .., |_, value| decode(value))
    }

    /// Every batch that is not confirmed, in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn open_batches(&self) -> Result<Vec<BatchRecord>> {
        self.read(BATCHES, .., |_, value| decode(value))
    }

    /// Every batch that is confirmed, in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn confirmed_batches(&self) -> Result<Vec<BatchRecord>> {
        self.read(DONE, .., |_, value| decode(value))
    }

    fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, Fault>) -> Result<T> {
        let run = || -> Result<T, Fault> {
            let txn = self.db.begin_write()?;
            let value = work(&txn)?;
            txn.commit()?;
            Ok(value)
        };
        run().map_err(|fault| fault.at(&self.path))
    }

    fn read<'a, T>(
        &self,
        table: Table,
        range: impl RangeBounds<&'a [u8]> + 'a,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, Fault>,
    ) -> Result<Vec<T>> {
        let run = || -> Result<Vec<T>, Fault> {
            let txn = self.db.begin_read()?;
            let table = txn.open_table(table)?;
            let mut found = Vec::new();
            for entry in table.range(range)? {
                let (id, value) = entry?;
                found.push(decode(id.value(), value.value())?);
            }
            Ok(found)
        };
        run().map_err(|fault| fault.at(&self.path))
    }
}

/// What stops a transaction: the database, or one of our own checks.
enum Fault {
    Database(redb::Error),
    Ours(Error),
    Record(serde_json::Error),
}

impl Fault {
    fn at(self, path: &Path) -> Error {
        match self {
            Self::Database(error) => Error::store(path, error),
            Self::Ours(error) => error,
            Self::Record(error) => Error::store(path, format!("holds a record that cannot be read: {error}")),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Record(error)
    }
}

macro_rules! database_faults {
    ($($error:ty),+) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        }
    )+};
}

database_faults!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

fn get<T: DeserializeOwned>(txn: &WriteTransaction, table: Table, id: &[u8]) -> Result<Option<T>, Fault> {
    let table = txn.open_table(table)?;
    table.get(id)?.map(|stored| decode(stored.value())).transpose()
}

fn put<T: Serialize>(txn: &WriteTransaction, table: Table, id: &[u8], value: &T) -> Result<(), Fault> {
    txn.open_table(table)?.insert(id, serde_json::to_vec(value)?.as_slice())?;
    Ok(())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    Ok(serde_json::from_slice(bytes)?)
}

fn last_number(txn: &WriteTransaction, table: Table) -> Result<Option<u64>, Fault> {
    let table = txn.open_table(table)?;
    let last = table.last()?.and_then(|(id, _)| id.value().try_into().ok().map(u64::from_be_bytes));
    Ok(last)
}

/// Makes the claims of a window the latest of their lanes: they only ever rise.
fn store_claims(txn: &WriteTransaction, claims: &[RedeemRow]) -> Result<(), Fault> {
    for row in claims {
        let id = lane_id(row.channel, row.model);
        let Some(mut lane) = get::<LaneRecord>(txn, LANES, &id)? else { continue };
        let known = lane.claim.as_ref().map(|known| known.claim.cumulative_pico);
        if known.is_none_or(|known| known <= row.claim.cumulative_pico) {
            lane.claim = Some(row.clone());
            put(txn, LANES, &id, &lane)?;
        }
    }
    Ok(())
}

/// Keeps the journal's lowest unconfirmed window: windows are confirmed in order.
fn move_cursor(txn: &WriteTransaction, record: &WindowRecord, event: Event) -> Result<(), Fault> {
    let id = record.key.journal.as_slice();
    let mut cursor: JournalCursor = get(txn, JOURNALS, id)?.unwrap_or_default();
    match event {
        Event::Confirm if record.key.window == cursor.unconfirmed => cursor.unconfirmed += 1,
        Event::RollBack => cursor.unconfirmed = cursor.unconfirmed.min(record.key.window),
        _ => return Ok(()),
    }
    put(txn, JOURNALS, id, &cursor)
}

fn window_id(key: WindowKey) -> [u8; 40] {
    let mut id = [0; 40];
    id[..32].copy_from_slice(key.journal.as_slice());
    id[32..].copy_from_slice(&key.window.to_be_bytes());
    id
}

fn lane_id(channel: B256, model: B256) -> [u8; 64] {
    let mut id = [0; 64];
    id[..32].copy_from_slice(channel.as_slice());
    id[32..].copy_from_slice(model.as_slice());
    id
}
