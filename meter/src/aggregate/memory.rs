//! Aggregates in memory, rebuilt from the journal at every start: the store when no Redis is configured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Aggregate, AggregateStore, Fence, Published, StoreError, WindowKey};
use crate::Totals;
use crate::ledger::RowKey;

/// Aggregates in this process. Clones share them, so that one may publish while others read.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<WindowKey, Aggregate>>>);

impl MemoryStore {
    fn windows_by_key(&self) -> MutexGuard<'_, BTreeMap<WindowKey, Aggregate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AggregateStore for MemoryStore {
    async fn publish(
        &mut self,
        key: WindowKey,
        expected: Option<Fence>,
        rows: &[(RowKey, Totals)],
        fence: Fence,
    ) -> Result<Published, StoreError> {
        let mut windows = self.windows_by_key();
        let found = windows.get(&key).map(|window| window.fence);
        if found != expected {
            return Ok(Published::Other(found));
        }
        let window = windows.entry(key).or_insert(Aggregate { fence, rows: BTreeMap::new() });
        window.fence = fence;
        for (row, totals) in rows {
            match totals.calls {
                0 => window.rows.remove(row),
                _ => window.rows.insert(*row, *totals),
            };
        }
        Ok(Published::Done)
    }

    async fn fence(&mut self, key: WindowKey) -> Result<Option<Fence>, StoreError> {
        Ok(self.windows_by_key().get(&key).map(|window| window.fence))
    }

    async fn read(&mut self, key: WindowKey) -> Result<Option<Aggregate>, StoreError> {
        Ok(self.windows_by_key().get(&key).cloned())
    }

    async fn announce(&mut self, _key: WindowKey) -> Result<(), StoreError> {
        Ok(())
    }

    async fn windows(&mut self) -> Result<Vec<WindowKey>, StoreError> {
        Ok(self.windows_by_key().keys().copied().collect())
    }

    async fn retire(&mut self, key: WindowKey) -> Result<(), StoreError> {
        self.windows_by_key().remove(&key);
        Ok(())
    }
}
