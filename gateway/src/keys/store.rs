//! Keys on disk: one redb table from the hash of a secret to the JSON of its terms.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{KeyId, KeyRecord};
use crate::error::GatewayError;

const KEYS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("keys");

pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, GatewayError> {
        let problem = |problem: String| GatewayError::Keys { path: path.to_owned(), problem };
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                problem("is in use by another process; stop that one, or use another --home".to_owned())
            }
            other => problem(format!("cannot be opened: {other}; move it away to begin a new one")),
        })?;
        let store = Self { database, path: path.to_owned() };
        let transaction = store.database.begin_write().map_err(|error| store.problem(error))?;
        transaction.open_table(KEYS).map_err(|error| store.problem(error))?;
        transaction.commit().map_err(|error| store.problem(error))?;
        Ok(store)
    }

    /// Writes a key durably.
    pub(super) fn put(&self, id: &KeyId, record: &KeyRecord) -> Result<(), GatewayError> {
        let bytes = serde_json::to_vec(record).map_err(|error| self.problem(error))?;
        let transaction = self.database.begin_write().map_err(|error| self.problem(error))?;
        {
            let mut table = transaction.open_table(KEYS).map_err(|error| self.problem(error))?;
            table.insert(&id.0, bytes.as_slice()).map_err(|error| self.problem(error))?;
        }
        transaction.commit().map_err(|error| self.problem(error))
    }

    pub(super) fn all(&self) -> Result<Vec<(KeyId, KeyRecord)>, GatewayError> {
        let transaction = self.database.begin_read().map_err(|error| self.problem(error))?;
        let table = transaction.open_table(KEYS).map_err(|error| self.problem(error))?;
        let rows = table.iter().map_err(|error| self.problem(error))?;
        rows.map(|row| {
            let (id, bytes) = row.map_err(|error| self.problem(error))?;
            let id = KeyId(*id.value());
            let record = serde_json::from_slice(bytes.value())
                .map_err(|error| self.problem(format!("key {id} is not readable: {error}")))?;
            Ok((id, record))
        })
        .collect()
    }

    pub(super) fn problem(&self, problem: impl ToString) -> GatewayError {
        GatewayError::Keys { path: self.path.clone(), problem: problem.to_string() }
    }
}
