//! Canonical blocks and logs on disk: rows and cursor move in one transaction, so no kill separates them.
//!
//! Every block keeps a running hash over all rows up to it. A reorganisation just goes back to the hash of the common
//! ancestor, and two stores with the same rows have the same hash however they came by them.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, Keccak256};
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::{Error, Head, Log, Result};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");
/// Keyed by (height, block hash, log index).
const ROWS: TableDefinition<(u64, &[u8; 32], u64), &[u8]> = TableDefinition::new("rows");

/// Layout of the tables; another one is refused.
const SCHEMA: u32 = 1;
const PARENTAGE: &str = "parentage";
const FINALIZED: &str = "finalized";

/// What a store was made for; a store is never used for anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parentage {
    pub schema: u32,
    pub chain_id: u64,
    pub genesis: B256,
    /// Height of the first block that may hold a log.
    pub start: u64,
    pub addresses: Vec<Address>,
}

impl Parentage {
    pub fn new(chain_id: u64, genesis: B256, start: u64, addresses: Vec<Address>) -> Self {
        Self { schema: SCHEMA, chain_id, genesis, start, addresses }
    }
}

/// A block of the canonical chain as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub head: Head,
    /// Running hash over all rows up to and with this block.
    pub state_hash: B256,
    /// How many rows it has.
    pub rows: u64,
}

/// The database of one follower.
#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens or creates the store at `path`; in memory without one.
    pub fn open(path: Option<&Path>, parentage: &Parentage) -> Result<Self> {
        let shown = path.map_or_else(|| PathBuf::from("(memory)"), Path::to_path_buf);
        let database = match path {
            Some(path) => Database::create(path),
            None => Database::builder().create_with_backend(InMemoryBackend::new()),
        };
        let database = database.map_err(|e| open_error(&shown, e))?;
        let store = Self { database, path: shown };
        store.adopt(parentage)?;
        Ok(store)
    }

    fn adopt(&self, parentage: &Parentage) -> Result<()> {
        let write = self.ok(self.database.begin_write())?;
        {
            let mut meta = self.ok(write.open_table(META))?;
            let known = self.ok(meta.get(PARENTAGE))?.map(|value| value.value().to_vec());
            match known {
                Some(bytes) => self.check_parentage(parentage, &self.decode(&bytes)?)?,
                None => {
                    self.ok(meta.insert(PARENTAGE, self.encode(parentage)?.as_slice()))?;
                }
            }
            self.ok(write.open_table(BLOCKS))?;
            self.ok(write.open_table(ROWS))?;
        }
        self.ok(write.commit())
    }

    fn check_parentage(&self, wanted: &Parentage, known: &Parentage) -> Result<()> {
        if wanted == known {
            return Ok(());
        }
        let shown = |p: &Parentage| {
            format!(
                "chain {} (genesis {}) from block {} with contracts {:?}",
                p.chain_id, p.genesis, p.start, p.addresses
            )
        };
        Err(Error::ForeignStore { path: self.path.clone(), expected: shown(wanted), found: shown(known) })
    }

    /// The newest block.
    pub fn tip(&self) -> Result<Option<Stored>> {
        let read = self.ok(self.database.begin_read())?;
        let blocks = self.ok(read.open_table(BLOCKS))?;
        let last = self.ok(blocks.last())?;
        last.map(|(_, value)| self.decode(value.value())).transpose()
    }

    /// The newest stored block of height `number` or below.
    pub fn at_or_below(&self, number: u64) -> Result<Option<Stored>> {
        let read = self.ok(self.database.begin_read())?;
        let blocks = self.ok(read.open_table(BLOCKS))?;
        let last = self.ok(blocks.range(..=number))?.next_back();
        last.map(|entry| self.decode(self.ok(entry)?.1.value())).transpose()
    }

    /// Height up to which the chain was final when last seen.
    pub fn finalized(&self) -> Result<Option<u64>> {
        let read = self.ok(self.database.begin_read())?;
        let meta = self.ok(read.open_table(META))?;
        let value = self.ok(meta.get(FINALIZED))?;
        value.map(|value| self.decode(value.value())).transpose()
    }

    /// Stored blocks and their logs, in order, that lie in `range`.
    pub fn blocks(&self, range: RangeInclusive<u64>) -> Result<Vec<(Head, Vec<Log>)>> {
        let read = self.ok(self.database.begin_read())?;
        let blocks = self.ok(read.open_table(BLOCKS))?;
        let rows = self.ok(read.open_table(ROWS))?;
        let mut found = Vec::new();
        for entry in self.ok(blocks.range(range))? {
            let stored: Stored = self.decode(self.ok(entry)?.1.value())?;
            let (number, hash) = (stored.head.number, stored.head.hash);
            let keys = (number, &hash.0, 0)..=(number, &hash.0, u64::MAX);
            let logs = self.ok(rows.range(keys))?.map(|row| self.decode(self.ok(row)?.1.value()));
            found.push((stored.head, logs.collect::<Result<Vec<Log>>>()?));
        }
        Ok(found)
    }

    /// Appends blocks with their logs on top of the tip and moves finality, in one transaction. Final blocks without
    /// logs, but the newest, are forgotten: nothing will ask for them.
    pub fn append(&self, blocks: &[(Head, Vec<Log>)], finalized: u64) -> Result<()> {
        let mut state_hash = self.tip()?.map_or(B256::ZERO, |tip| tip.state_hash);
        let write = self.ok(self.database.begin_write())?;
        {
            let mut block_table = self.ok(write.open_table(BLOCKS))?;
            let mut row_table = self.ok(write.open_table(ROWS))?;
            for (head, logs) in blocks {
                for log in logs {
                    let value = self.encode(log)?;
                    state_hash = chained(state_hash, log, &value);
                    let key = (head.number, &head.hash.0, log.index);
                    self.ok(row_table.insert(key, value.as_slice()))?;
                }
                let stored = Stored { head: *head, state_hash, rows: logs.len() as u64 };
                self.ok(block_table.insert(head.number, self.encode(&stored)?.as_slice()))?;
            }
            let mut meta = self.ok(write.open_table(META))?;
            let before =
                self.ok(meta.get(FINALIZED))?.map(|v| self.decode(v.value())).transpose()?.unwrap_or(0);
            if finalized > before {
                self.ok(meta.insert(FINALIZED, self.encode(&finalized)?.as_slice()))?;
                let newest = self.ok(block_table.range(..=finalized))?.next_back();
                let keep =
                    newest.map(|entry| self.ok(entry).map(|(key, _)| key.value())).transpose()?.unwrap_or(0);
                let empty = |_: u64, value: &[u8]| {
                    serde_json::from_slice::<Stored>(value).is_ok_and(|stored| stored.rows == 0)
                };
                self.ok(block_table.retain_in(before..keep, |key, value| !empty(key, value)))?;
            }
        }
        self.ok(write.commit())
    }

    /// Forgets every block above `ancestor` with its rows.
    pub fn cut(&self, ancestor: u64) -> Result<()> {
        let above = ancestor.saturating_add(1);
        let write = self.ok(self.database.begin_write())?;
        {
            let mut blocks = self.ok(write.open_table(BLOCKS))?;
            self.ok(blocks.retain_in(above.., |_, _| false))?;
            let mut rows = self.ok(write.open_table(ROWS))?;
            self.ok(rows.retain_in((above, &[0; 32], 0).., |_, _| false))?;
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

fn chained(before: B256, log: &Log, value: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(before);
    hasher.update(log.block_hash);
    hasher.update(log.index.to_be_bytes());
    hasher.update(value);
    hasher.finalize()
}

/// Maps redb's refusals to open a file.
pub(crate) fn open_error(path: &Path, error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::Locked { path: path.into() },
        other => Error::Store { path: path.into(), problem: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Bytes, keccak256};

    use super::*;

    fn head(number: u64, fork: u8) -> Head {
        let hash = |n: u64| keccak256([&n.to_be_bytes()[..], &[fork]].concat());
        Head { number, hash: hash(number), parent: hash(number.wrapping_sub(1)), timestamp_s: number }
    }

    fn log(head: Head, index: u64) -> Log {
        Log {
            block_number: head.number,
            block_hash: head.hash,
            index,
            transaction: B256::ZERO,
            address: Address::ZERO,
            topics: vec![head.hash],
            data: Bytes::from_static(b"data"),
        }
    }

    fn parentage() -> Parentage {
        Parentage::new(31337, B256::ZERO, 0, vec![Address::ZERO])
    }

    #[test]
    fn a_cut_and_replaced_branch_hashes_as_if_it_had_never_been() {
        let (live, fresh) =
            (Store::open(None, &parentage()).unwrap(), Store::open(None, &parentage()).unwrap());
        let common = (head(1, 0), vec![log(head(1, 0), 0)]);
        let orphan = (head(2, 1), vec![log(head(2, 1), 0), log(head(2, 1), 3)]);
        let canonical = (head(2, 2), vec![log(head(2, 2), 1)]);
        live.append(&[common.clone(), orphan], 0).unwrap();
        let with_orphan = live.tip().unwrap().unwrap().state_hash;
        live.cut(1).unwrap();
        live.append(std::slice::from_ref(&canonical), 0).unwrap();
        fresh.append(&[common.clone(), canonical.clone()], 0).unwrap();
        let (live_tip, fresh_tip) = (live.tip().unwrap().unwrap(), fresh.tip().unwrap().unwrap());
        assert_eq!(live_tip, fresh_tip);
        assert_ne!(live_tip.state_hash, with_orphan);
        assert_eq!(live.blocks(0..=9).unwrap(), vec![common, canonical]);
    }

    #[test]
    fn final_blocks_without_logs_are_forgotten_but_the_newest() {
        let store = Store::open(None, &parentage()).unwrap();
        let blocks: Vec<_> =
            (0..6).map(|n| (head(n, 0), if n == 2 { vec![log(head(n, 0), 0)] } else { vec![] })).collect();
        store.append(&blocks, 0).unwrap();
        store.append(&[], 4).unwrap();
        let left: Vec<u64> = store.blocks(0..=9).unwrap().iter().map(|(head, _)| head.number).collect();
        assert_eq!(left, [2, 4, 5]);
        assert_eq!(store.finalized().unwrap(), Some(4));
        assert_eq!(store.at_or_below(3).unwrap().unwrap().head.number, 2);
    }

    #[test]
    fn a_store_serves_one_process_and_one_deployment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("follower.redb");
        let store = Store::open(Some(&path), &parentage()).unwrap();
        assert!(matches!(Store::open(Some(&path), &parentage()), Err(Error::Locked { .. })));
        drop(store);
        let other = Parentage::new(1, B256::ZERO, 0, vec![Address::ZERO]);
        assert!(matches!(Store::open(Some(&path), &other), Err(Error::ForeignStore { .. })));
        Store::open(Some(&path), &parentage()).unwrap();
    }
}
