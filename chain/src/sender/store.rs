//! The sender's book: intents by id, and the next nonce.

use std::path::{Path, PathBuf};

use alloy::primitives::{B256, Bytes};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::record::{Attempt, Record, State};
use crate::follower::open_error;
use crate::{Error, Result};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const INTENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("intents");
/// Ids of intents that are not final, by nonce.
const UNFINISHED: TableDefinition<u64, &str> = TableDefinition::new("unfinished");

const BOOK: &str = "book";

/// Layout of the tables; another one is refused.
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Book {
    schema: u32,
    chain_id: u64,
    genesis: B256,
    next_nonce: u64,
}

/// The database of one account.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the book, or creates it for an account that has used `nonce` nonces before.
    pub fn open(path: &Path, chain_id: u64, genesis: B256, nonce: u64) -> Result<Self> {
        let database = Database::create(path).map_err(|e| open_error(path, e))?;
        let store = Self { database, path: path.into() };
        let wanted = Book { schema: SCHEMA, chain_id, genesis, next_nonce: nonce };
        let write = store.ok(store.database.begin_write())?;
        {
            let mut meta = store.ok(write.open_table(META))?;
            let known = store.ok(meta.get(BOOK))?.map(|v| store.decode::<Book>(v.value())).transpose()?;
            match known {
                Some(book) => store.check(&wanted, &book)?,
                None => {
                    store.ok(meta.insert(BOOK, store.encode(&wanted)?.as_slice()))?;
                }
            }
            store.ok(write.open_table(INTENTS))?;
            store.ok(write.open_table(UNFINISHED))?;
        }
        store.ok(write.commit())?;
        Ok(store)
    }

    fn check(&self, wanted: &Book, known: &Book) -> Result<()> {
        let same =
            (wanted.schema, wanted.chain_id, wanted.genesis) == (known.schema, known.chain_id, known.genesis);
        if same {
            return Ok(());
        }
        let shown =
            |b: &Book| format!("chain {} with genesis {} (layout {})", b.chain_id, b.genesis, b.schema);
        Err(Error::ForeignStore { path: self.path.clone(), expected: shown(wanted), found: shown(known) })
    }

    /// The nonce of the next new intent.
    pub fn next_nonce(&self) -> Result<u64> {
        let read = self.ok(self.database.begin_read())?;
        let meta = self.ok(read.open_table(META))?;
        let value = self.ok(meta.get(BOOK))?.ok_or_else(|| self.error("has no book".into()))?;
        Ok(self.decode::<Book>(value.value())?.next_nonce)
    }

    /// The intent with this id.
    pub fn get(&self, id: &str) -> Result<Option<Record>> {
        let read = self.ok(self.database.begin_read())?;
        let intents = self.ok(read.open_table(INTENTS))?;
        let value = self.ok(intents.get(id))?;
        value.map(|value| self.decode(value.value())).transpose()
    }

    /// Every intent that is not final, by nonce.
    pub fn unfinished(&self) -> Result<Vec<Record>> {
        let read = self.ok(self.database.begin_read())?;
        let unfinished = self.ok(read.open_table(UNFINISHED))?;
        let intents = self.ok(read.open_table(INTENTS))?;
        let mut records = Vec::new();
        for entry in self.ok(unfinished.iter())? {
            let (_, id) = self.ok(entry)?;
            let value = self.ok(intents.get(id.value()))?;
            let value = value.ok_or_else(|| self.error(format!("misses intent {}", id.value())))?;
            records.push(self.decode(value.value())?);
        }
        Ok(records)
    }

    /// Adds new intents, whose nonces follow each other, and moves the next nonce past them.
    pub fn insert(&self, records: &[Record]) -> Result<()> {
        let write = self.ok(self.database.begin_write())?;
        {
            let mut meta = self.ok(write.open_table(META))?;
            let book = self.ok(meta.get(BOOK))?.map(|v| self.decode::<Book>(v.value())).transpose()?;
            let mut book = book.ok_or_else(|| self.error("has no book".into()))?;
            let mut intents = self.ok(write.open_table(INTENTS))?;
            let mut unfinished = self.ok(write.open_table(UNFINISHED))?;
            for record in records {
                if record.nonce != book.next_nonce || self.ok(intents.get(record.id.as_str()))?.is_some() {
                    return Err(self.error(format!("would reuse nonce {} or id {}", record.nonce, record.id)));
                }
                book.next_nonce += 1;
                self.ok(intents.insert(record.id.as_str(), self.encode(record)?.as_slice()))?;
                self.ok(unfinished.insert(record.nonce, record.id.as_str()))?;
            }
            self.ok(meta.insert(BOOK, self.encode(&book)?.as_slice()))?;
        }
        self.ok(write.commit())
    }

    /// Stores another signed transaction of an intent, before it is sent.
    pub fn add_attempt(&self, id: &str, attempt: &Attempt) -> Result<()> {
        self.change(id, |record| {
            record.attempts.push(attempt.clone());
            Ok(())
        })
    }

    /// Moves an intent from state `from` to state `to`; refuses if it is elsewhere or may not go there.
    pub fn transition(&self, id: &str, from: &State, to: State) -> Result<()> {
        self.change(id, |record| {
            if record.state != *from || !from.may_become(&to) {
                return Err(self.error(format!("intent {id} cannot go from {:?} to {to:?}", record.state)));
            }
            if matches!(to, State::Final(_)) {
                record.attempts.clear();
                record.input = Bytes::new();
            }
            record.state = to;
            Ok(())
        })
    }

    fn change(&self, id: &str, edit: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
        let write = self.ok(self.database.begin_write())?;
        {
            let mut intents = self.ok(write.open_table(INTENTS))?;
            let known = self.ok(intents.get(id))?.map(|v| self.decode::<Record>(v.value())).transpose()?;
            let mut record = known.ok_or_else(|| Error::UnknownIntent { id: id.into() })?;
            edit(&mut record)?;
            self.ok(intents.insert(id, self.encode(&record)?.as_slice()))?;
            if matches!(record.state, State::Final(_)) {
                self.ok(self.ok(write.open_table(UNFINISHED))?.remove(record.nonce))?;
            }
        }
        self.ok(write.commit())
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>> {
        serde_json::to_vec(value).map_err(|e| self.error(e.to_string()))
    }

    fn decode<T: for<'de> Deserialize<'de>>(&self, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|e| self.error(format!("holds a record that does not parse: {e}")))
    }

    fn ok<T, E: std::fmt::Display>(&self, result: std::result::Result<T, E>) -> Result<T> {
        result.map_err(|e| self.error(e.to_string()))
    }

    fn error(&self, problem: String) -> Error {
        Error::Store { path: self.path.clone(), problem }
    }
}
