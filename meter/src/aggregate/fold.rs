//! The fold: keeps a store equal to the ledger, whatever happens to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Aggregate, AggregateStore, Fence, MAX_ROWS, Published, StoreError, WindowKey};
use crate::Totals;
use crate::ledger::RowKey;
use crate::meter::{Core, Inner};

/// Ticks between two looks at windows that had nothing to publish: a wipe of an idle store is noticed by then.
const VERIFY_EVERY: u32 = 10;

/// Publishes a meter's totals to a store.
pub(crate) struct Fold<S> {
    meter: Arc<Inner>,
    store: S,
    /// Windows kept in the store, and what is known of each.
    windows: BTreeMap<u64, Window>,
    tick: u32,
    /// Whether windows of an earlier run, which are no longer kept, have been dropped from the store.
    swept: bool,
}

#[derive(Default)]
struct Window {
    /// The fence that the store confirmed last; `None` when everything has to be sent.
    confirmed: Option<u64>,
    /// Rows that changed since.
    changed: BTreeSet<RowKey>,
    /// A sealed window's last fence; nothing follows it.
    sealed_at: Option<u64>,
}

/// Which rows of a window to publish.
enum Rows {
    Changed,
    All,
}

/// Totals to publish, all taken under the append lock at one offset.
struct Batch {
    rows: Vec<(RowKey, Totals)>,
    fence: u64,
}

impl<S: AggregateStore> Fold<S> {
    pub(crate) fn new(meter: Arc<Inner>, store: S) -> Self {
        Self { meter, store, windows: BTreeMap::new(), tick: 0, swept: false }
    }

    /// Publishes what changed since the last tick; answers the offset that the store now reaches.
    ///
    /// # Errors
    /// [`StoreError`]; what was to be published is kept for the next tick.
    pub(crate) async fn tick(&mut self) -> Result<u64, StoreError> {
        let position = self.gather();
        self.retire().await?;
        self.tick = self.tick.wrapping_add(1);
        if self.tick.is_multiple_of(VERIFY_EVERY) {
            self.verify().await?;
        }
        // A window that had to be sent whole may tell of a wipe in the middle of the tick, which took those sent or
        // looked at before it: so all are looked at again, until nothing is missing.
        while self.publish_windows().await? {
            self.verify().await?;
        }
        Ok(position)
    }

    /// Publishes every window that changed; answers whether one had to be sent whole.
    async fn publish_windows(&mut self) -> Result<bool, StoreError> {
        let numbers: Vec<u64> = self.windows.keys().copied().collect();
        let mut any_whole = false;
        for number in numbers {
            any_whole |= self.publish(number).await?;
        }
        Ok(any_whole)
    }

    /// Takes from the ledger which windows there are and which of their rows changed.
    fn gather(&mut self) -> u64 {
        let meter = self.meter.clone();
        let mut core = meter.core();
        self.take_changes(&mut core);
        core.writer.position()
    }

    fn take_changes(&mut self, core: &mut Core) {
        for (window, row) in core.ledger.take_changed() {
            self.windows.entry(window).or_default().changed.insert(row);
        }
        for sealed in core.ledger.recent() {
            self.windows.entry(sealed.span.window).or_default().sealed_at = Some(sealed.span.last_offset);
        }
        self.windows.entry(core.ledger.window()).or_default();
    }

    /// Drops windows that the ledger no longer keeps, from the store too.
    async fn retire(&mut self) -> Result<(), StoreError> {
        let kept: BTreeSet<u64> = {
            let core = self.meter.core();
            core.ledger.recent().map(|sealed| sealed.span.window).chain([core.ledger.window()]).collect()
        };
        let journal = self.meter.journal;
        let mut old: Vec<u64> =
            self.windows.keys().filter(|window| !kept.contains(window)).copied().collect();
        if !self.swept {
            old.extend(self.announced().await?.difference(&kept));
            self.swept = true;
        }
        for window in old {
            self.store.retire(WindowKey { journal, window }).await?;
            self.windows.remove(&window);
        }
        Ok(())
    }

    /// Looks whether the store still has what it confirmed, and in reach of its readers.
    async fn verify(&mut self) -> Result<(), StoreError> {
        let announced = self.announced().await?;
        let journal = self.meter.journal;
        for (window, state) in &mut self.windows {
            let Some(confirmed) = state.confirmed else { continue };
            let found = self.store.fence(WindowKey { journal, window: *window }).await?;
            if found != Some(Fence::At(confirmed)) || !announced.contains(window) {
                state.confirmed = None;
            }
        }
        Ok(())
    }

    /// This journal's windows that readers of the store find.
    async fn announced(&mut self) -> Result<BTreeSet<u64>, StoreError> {
        let journal = self.meter.journal;
        let found = self.store.windows().await?;
        Ok(found.into_iter().filter(|key| key.journal == journal).map(|key| key.window).collect())
    }

    /// Publishes a window if it changed; answers whether it had to be sent whole.
    async fn publish(&mut self, number: u64) -> Result<bool, StoreError> {
        let Some(window) = self.windows.get(&number) else { return Ok(false) };
        let is_final = window.sealed_at.is_none_or(|at| window.confirmed == Some(at));
        if window.confirmed.is_some() && window.changed.is_empty() && is_final {
            return Ok(false);
        }
        let on_top = match window.confirmed {
            Some(confirmed) => self.publish_changed(number, confirmed).await?,
            None => None,
        };
        let (published, whole) = match on_top {
            Some(fence) => (fence, false),
            None => (self.publish_all(number).await?, true),
        };
        if let Some(window) = self.windows.get_mut(&number) {
            window.confirmed = Some(published);
            window.changed.clear();
        }
        Ok(whole)
    }

    /// Publishes the changed rows on top of the confirmed fence; `None` if the store does not have that fence any more.
    async fn publish_changed(&mut self, number: u64, confirmed: u64) -> Result<Option<u64>, StoreError> {
        let batch = self.batch(number, Rows::Changed);
        self.send(number, Some(Fence::At(confirmed)), batch).await
    }

    /// Publishes the whole window over whatever the store has; rows that only the store has become empty.
    async fn publish_all(&mut self, number: u64) -> Result<u64, StoreError> {
        let key = WindowKey { journal: self.meter.journal, window: number };
        self.store.announce(key).await?;
        loop {
            let found = self.store.read(key).await?;
            let mut batch = self.batch(number, Rows::All);
            let known: BTreeSet<RowKey> = batch.rows.iter().map(|(row, _)| *row).collect();
            let strangers = found.iter().flat_map(|found: &Aggregate| found.rows.keys());
            let strangers = strangers.filter(|row| !known.contains(row));
            batch.rows.extend(strangers.map(|row| (*row, Totals::default())));
            // Another answer means that somebody wiped or replaced the store in between.
            if let Some(fence) = self.send(number, found.map(|found| found.fence), batch).await? {
                return Ok(fence);
            }
        }
    }

    /// Rows of a window as of now. What changed up to the very offset of the fence must be in it, so changes are taken
    /// under the same lock.
    fn batch(&mut self, number: u64, rows: Rows) -> Batch {
        let meter = self.meter.clone();
        let mut core = meter.core();
        self.take_changes(&mut core);
        let window = self.windows.entry(number).or_default();
        let totals = core.ledger.rows_of(number);
        let rows = match rows {
            Rows::Changed => {
                window.changed.iter().filter_map(|row| Some((*row, *totals?.get(row)?))).collect()
            }
            Rows::All => totals.into_iter().flatten().map(|(row, totals)| (*row, *totals)).collect(),
        };
        Batch { rows, fence: window.sealed_at.unwrap_or(core.writer.position()) }
    }

    /// Sends a batch in as few writes as will do; `None` if the store's fence was not the expected one.
    async fn send(
        &mut self,
        number: u64,
        expected: Option<Fence>,
        batch: Batch,
    ) -> Result<Option<u64>, StoreError> {
        let key = WindowKey { journal: self.meter.journal, window: number };
        let last = Fence::At(batch.fence);
        let writes = batch.rows.len().div_ceil(MAX_ROWS).max(1) as u64;
        let mut expected = expected;
        for write in 1..=writes {
            let from = (write - 1) as usize * MAX_ROWS;
            let rows = &batch.rows[from..batch.rows.len().min(from + MAX_ROWS)];
            let fence = if write == writes { last } else { Fence::Partial(write) };
            match self.store.publish(key, expected, rows, fence).await? {
                Published::Done => expected = Some(fence),
                Published::Other(_) => return Ok(None),
            }
        }
        Ok(Some(batch.fence))
    }
}
