//! The audit: every number again, from the journal's bytes alone.

use std::collections::BTreeMap;
use std::path::Path;

use alloy::primitives::B256;
use serde::Serialize;

use crate::aggregate::{Aggregate, AggregateStore, WindowKey};
use crate::journal::{JournalError, Reader, Record};
use crate::ledger::{Ledger, RowKey, SealedWindow};
use crate::{CallId, Charge, Deployment, MeterError, Totals, seals};

/// What an audit of a journal found. That every call is closed at most once, in the open window, with the charge that
/// follows from its price and tokens, is verified on the way: a journal that breaks it is a [`MeterError::Journal`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditReport {
    /// The journal.
    pub journal: B256,
    /// The contracts it is settled with.
    pub deployment: Deployment,
    /// Records read and verified.
    pub records: u64,
    /// Calls closed.
    pub calls: u64,
    /// All that was charged, in pico-dollars.
    pub charge_pico: u128,
    /// Calls that are open: in flight, or left by a writer that died and has not been opened again.
    pub open_calls: Vec<CallId>,
    /// Bytes behind the last whole record: being written, or a torn tail.
    pub tail_bytes: u64,
    /// The window that is open.
    pub open_window: u64,
    /// Sealed windows in order.
    pub windows: Vec<WindowAudit>,
    /// Windows whose aggregate differs, when a store was compared.
    pub aggregates: Vec<AggregateAudit>,
}

/// A sealed window, recomputed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowAudit {
    /// Its number.
    pub window: u64,
    /// Calls closed in it.
    pub calls: u64,
    /// Charged in it, in pico-dollars.
    pub charge_pico: u128,
    /// Digest of the recomputed seal.
    pub digest: B256,
    /// What the seal file says.
    pub seal: SealState,
}

/// How a seal file compares with the seal recomputed from the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "problem")]
pub enum SealState {
    /// Equal in every field.
    Equal,
    /// There is no file; the meter writes it when it is next opened.
    Missing,
    /// It says something else.
    Differs(String),
}

/// A window's aggregate against the journal up to the aggregate's fence (I3).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AggregateAudit {
    /// The window.
    pub window: u64,
    /// The aggregate's fence; `None` while a publication is under way, and nothing can be said.
    pub fence: Option<u64>,
    /// Rows that differ, as `payer/model: store …, journal …`.
    pub differences: Vec<String>,
}

impl AuditReport {
    /// Whether nothing was found that must not be: no differing seal, no differing aggregate.
    pub fn is_sound(&self) -> bool {
        self.windows.iter().all(|window| !matches!(window.seal, SealState::Differs(_)))
            && self.aggregates.iter().all(|aggregate| aggregate.differences.is_empty())
    }
}

/// Audits the journal in a meter's directory, which may be live: the lock is not taken. `None` if there is no journal.
///
/// # Errors
/// [`MeterError::Journal`] naming file and offset of the first damage.
pub fn audit(dir: &Path) -> Result<Option<AuditReport>, MeterError> {
    let Some(reader) = Reader::open(dir)? else { return Ok(None) };
    let header = reader.header().clone();
    let replayed = replay(reader, |_, _| {})?;
    let mut windows = Vec::new();
    for sealed in &replayed.sealed {
        windows.push(audit_window(dir, header.journal, header.deployment, sealed)?);
    }
    let models = replayed.ledger.by_model();
    let all = models.iter().try_fold(Totals::default(), |sum, (_, totals)| sum.checked_add(totals));
    let all =
        all.ok_or_else(|| MeterError::File { path: dir.into(), problem: "the totals overflow".into() })?;
    Ok(Some(AuditReport {
        journal: header.journal,
        deployment: header.deployment,
        records: replayed.records,
        calls: all.calls,
        charge_pico: all.charge.0,
        open_calls: replayed.ledger.open_records().iter().map(|open| open.call).collect(),
        tail_bytes: replayed.tail_bytes,
        open_window: replayed.ledger.window(),
        windows,
        aggregates: Vec::new(),
    }))
}

/// Audits the journal as [`audit`], and compares every window that `store` has of it with the journal up to that
/// window's fence.
///
/// # Errors
/// [`MeterError::Journal`], or [`MeterError::Store`] if the store does not answer.
pub async fn audit_with_store<S: AggregateStore>(
    dir: &Path,
    store: &mut S,
) -> Result<Option<AuditReport>, MeterError> {
    // The store is read first: fences that it had then are all within the journal that is read after.
    let mut found = Vec::new();
    for key in store.windows().await? {
        if let Some(aggregate) = store.read(key).await? {
            found.push((key, aggregate));
        }
    }
    let Some(mut report) = audit(dir)? else { return Ok(None) };
    found.retain(|(key, _)| key.journal == report.journal);
    report.aggregates = compare(dir, found)?;
    Ok(Some(report))
}

fn audit_window(
    dir: &Path,
    journal: B256,
    deployment: Deployment,
    sealed: &SealedWindow,
) -> Result<WindowAudit, MeterError> {
    let seal = seals::build(dir, journal, deployment, sealed)?;
    let state = match seals::read(dir, seal.window) {
        Ok(None) => SealState::Missing,
        Ok(Some(file)) if file == seal => SealState::Equal,
        Ok(Some(file)) => {
            SealState::Differs(format!("its digest is {}, the journal's {}", file.digest, seal.digest))
        }
        Err(error) => SealState::Differs(error.to_string()),
    };
    Ok(WindowAudit {
        window: seal.window,
        calls: seal.totals.iter().map(|row| row.calls).sum(),
        charge_pico: seal.totals.iter().map(|row| row.charge_pico).sum(),
        digest: seal.digest,
        seal: state,
    })
}

/// Recomputes each window up to its aggregate's fence.
fn compare(dir: &Path, found: Vec<(WindowKey, Aggregate)>) -> Result<Vec<AggregateAudit>, MeterError> {
    let Some(reader) = Reader::open(dir)? else { return Ok(Vec::new()) };
    let fences: BTreeMap<u64, u64> =
        found.iter().filter_map(|(key, aggregate)| Some((key.window, aggregate.fence.offset()?))).collect();
    let mut expected = BTreeMap::<u64, BTreeMap<RowKey, Totals>>::new();
    let replayed = replay(reader, |end, record| {
        let Record::Close(close) = record else { return };
        if fences.get(&close.window).is_some_and(|fence| end <= *fence) {
            let row =
                expected.entry(close.window).or_default().entry((close.payer, close.model)).or_default();
            // The ledger has added up more than this without overflow.
            *row = row.plus(close).unwrap_or(*row);
        }
    })?;
    let end = replayed.end;
    let audits = found.into_iter().map(|(key, aggregate)| {
        let fence = aggregate.fence.offset();
        let rows = expected.remove(&key.window).unwrap_or_default();
        let differences = match fence {
            Some(fence) if fence > end => {
                vec![format!("its fence {fence} lies behind the journal's end {end}")]
            }
            Some(_) => differences(&aggregate.rows, &rows),
            None => Vec::new(),
        };
        AggregateAudit { window: key.window, fence, differences }
    });
    Ok(audits.collect())
}

fn differences(store: &BTreeMap<RowKey, Totals>, journal: &BTreeMap<RowKey, Totals>) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = store.keys().chain(journal.keys()).collect();
    let differing = keys.into_iter().filter(|row| store.get(row) != journal.get(row));
    let show = |totals: Option<&Totals>| {
        let Totals { calls, prompt_tokens, completion_tokens, charge: Charge(charge) } =
            totals.copied().unwrap_or_default();
        format!("{calls} calls, {prompt_tokens} + {completion_tokens} tokens, {charge} pico-dollars")
    };
    let describe = |row: &RowKey| {
        format!("{}/{}: store {}; journal {}", row.0, row.1, show(store.get(row)), show(journal.get(row)))
    };
    differing.map(describe).collect()
}

struct Replayed {
    ledger: Ledger,
    sealed: Vec<std::sync::Arc<SealedWindow>>,
    records: u64,
    tail_bytes: u64,
    end: u64,
}

/// Applies every record, showing each with the offset behind it.
fn replay(mut reader: Reader, mut visit: impl FnMut(u64, &Record)) -> Result<Replayed, JournalError> {
    let mut ledger = Ledger::new(reader.header().begun_at_ms, reader.position(), 1);
    let (mut sealed, mut records) = (Vec::new(), 0);
    while let Some(entry) = reader.next_entry()? {
        let applied =
            ledger.apply(entry.span, &entry.record).map_err(|problem| reader.refuse(entry.span, problem))?;
        sealed.extend(applied);
        visit(entry.span.end, &entry.record);
        records += 1;
    }
    Ok(Replayed { ledger, sealed, records, tail_bytes: reader.tail_bytes()?, end: reader.position() })
}
