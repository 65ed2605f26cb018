//! What follows from the journal's records: running totals, lanes, vouchers, windows.
//!
//! Pure: the writer, recovery, readers and the audit all apply the same records and must reach the same ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alloy::primitives::B256;
use dividend_chain::eip712::Voucher;
use dividend_registry::ModelId;
use serde::{Deserialize, Serialize};

use crate::journal::{OpenRecord, Record, SealRecord, Span, VoucherRecord};
use crate::{CallId, CallRecord, Charge, Payer};

/// A row of a window's totals.
pub type RowKey = (Payer, ModelId);

/// Sums over closed calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Closed calls.
    pub calls: u64,
    /// Prompt tokens prefilled.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Charged, in pico-dollars.
    #[serde(rename = "charge_pico")]
    pub charge: Charge,
}

/// The highest voucher of a lane, as its payer signed it.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneVoucher {
    /// The promise.
    pub voucher: Voucher,
    /// `r ‖ s ‖ v`.
    pub signature: [u8; 65],
}

/// A sealed window's place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Its number.
    pub window: u64,
    /// Offset behind the seal before it, or of the first record.
    pub first_offset: u64,
    /// Offset behind its own SEAL record.
    pub last_offset: u64,
    /// When the window before was sealed or the journal begun, unix milliseconds.
    pub opened_at_ms: u64,
    /// When it was sealed, unix milliseconds.
    pub sealed_at_ms: u64,
}

/// A lane of which a window has calls or a voucher: its highest voucher and all that was served on it.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneClaim {
    /// The highest voucher.
    pub highest: LaneVoucher,
    /// Charged on the lane since the journal began, in pico-dollars.
    pub cumulative_pico: u128,
}

/// A sealed window.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedWindow {
    /// Its place.
    pub span: WindowSpan,
    /// Totals per payer and model.
    pub rows: BTreeMap<RowKey, Totals>,
    /// The lanes it touched, by channel and model.
    pub lanes: Vec<LaneClaim>,
}

/// The windows of a journal: the sealed ones and where the open one begins.
#[derive(Clone, Debug)]
pub struct Spans {
    /// Sealed windows in order.
    pub sealed: Vec<WindowSpan>,
    /// Offset at which the open window begins.
    pub open_offset: u64,
}

/// A record that cannot follow the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// OPEN of an open call.
    #[error("call {0} is opened twice")]
    AlreadyOpen(CallId),
    /// CLOSE of a call that is not open.
    #[error("call {0} is closed, but not open")]
    NotOpen(CallId),
    /// CLOSE that contradicts its OPEN, or its own charge.
    #[error("the close of call {call} has another {field} than follows from its open")]
    Differs {
        /// The call.
        call: CallId,
        /// What differs.
        field: &'static str,
    },
    /// A record of another window than the open one.
    #[error("the record is of window {found}, but window {expected} is open")]
    Window {
        /// Its window.
        found: u64,
        /// The open one.
        expected: u64,
    },
    /// A total past 128 bits of pico-dollars or 64 bits of tokens.
    #[error("the totals overflow at call {0}")]
    Overflow(CallId),
}

/// Everything that the records applied so far add up to.
#[derive(Clone, Debug)]
pub struct Ledger {
    keep_windows: usize,
    open: HashMap<CallId, OpenRecord>,
    payers: HashMap<Payer, Totals>,
    lanes: HashMap<RowKey, Totals>,
    models: BTreeMap<ModelId, Totals>,
    vouchers: HashMap<(B256, B256), LaneVoucher>,
    current: Window,
    spans: Vec<WindowSpan>,
    recent: VecDeque<Arc<SealedWindow>>,
    changed: BTreeSet<(u64, RowKey)>,
}

/// The open window.
#[derive(Clone, Debug, Default)]
struct Window {
    number: u64,
    first_offset: u64,
    opened_at_ms: u64,
    first_close_at_ms: Option<u64>,
    rows: BTreeMap<RowKey, Totals>,
    lanes: BTreeSet<(B256, B256)>,
}

impl Ledger {
    /// The ledger of a journal that begins at `first_offset`, keeping the totals of the last `keep_windows` sealed
    /// windows, at least one.
    pub fn new(begun_at_ms: u64, first_offset: u64, keep_windows: usize) -> Self {
        Self {
            keep_windows: keep_windows.max(1),
            open: HashMap::new(),
            payers: HashMap::new(),
            lanes: HashMap::new(),
            models: BTreeMap::new(),
            vouchers: HashMap::new(),
            current: Window { first_offset, opened_at_ms: begun_at_ms, ..Window::default() },
            spans: Vec::new(),
            recent: VecDeque::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Applies the next record; answers the window that it sealed, if it is a seal.
    ///
    /// # Errors
    /// [`LedgerError`], and then nothing is changed.
    pub fn apply(&mut self, span: Span, record: &Record) -> Result<Option<Arc<SealedWindow>>, LedgerError> {
        match record {
            Record::Open(open) => self.apply_open(open).map(|()| None),
            Record::Close(close) => self.apply_close(close).map(|()| None),
            Record::Voucher(voucher) => {
                self.apply_voucher(voucher);
                Ok(None)
            }
            Record::Seal(seal) => self.apply_seal(span, seal).map(Some),
        }
    }

    fn apply_open(&mut self, open: &OpenRecord) -> Result<(), LedgerError> {
        if self.open.contains_key(&open.call) {
            return Err(LedgerError::AlreadyOpen(open.call));
        }
        self.open.insert(open.call, *open);
        Ok(())
    }

    fn apply_close(&mut self, close: &CallRecord) -> Result<(), LedgerError> {
        self.check_close(close)?;
        let row = (close.payer, close.model);
        let add = |totals: Option<&Totals>| {
            totals.copied().unwrap_or_default().plus(close).ok_or(LedgerError::Overflow(close.call))
        };
        // Every other total is a part of one of these two, so if these do not overflow, none does.
        let (payer, model) = (add(self.payers.get(&close.payer))?, add(self.models.get(&close.model))?);
        let (lane, in_window) = (add(self.lanes.get(&row))?, add(self.current.rows.get(&row))?);
        self.payers.insert(close.payer, payer);
        self.models.insert(close.model, model);
        self.lanes.insert(row, lane);
        self.current.rows.insert(row, in_window);
        self.current.first_close_at_ms.get_or_insert(close.at_ms);
        if let Some(channel) = close.payer.channel() {
            self.current.lanes.insert((channel, close.model.0.into()));
        }
        self.changed.insert((close.window, row));
        self.open.remove(&close.call);
        Ok(())
    }

    fn check_close(&self, close: &CallRecord) -> Result<(), LedgerError> {
        let call = close.call;
        let open = self.open.get(&call).ok_or(LedgerError::NotOpen(call))?;
        self.check_window(close.window)?;
        let differs = |field| Err(LedgerError::Differs { call, field });
        if close.payer != open.payer {
            return differs("payer");
        }
        if close.model != open.model {
            return differs("model");
        }
        if close.price != open.price {
            return differs("price");
        }
        if close.charge != close.price.charge(close.usage) {
            return differs("charge");
        }
        Ok(())
    }

    fn check_window(&self, found: u64) -> Result<(), LedgerError> {
        let expected = self.current.number;
        if found == expected { Ok(()) } else { Err(LedgerError::Window { found, expected }) }
    }

    fn apply_voucher(&mut self, record: &VoucherRecord) {
        let lane = (record.voucher.channel, record.voucher.lane);
        self.current.lanes.insert(lane);
        if !self.vouchers.get(&lane).is_some_and(|known| known.covers(&record.voucher)) {
            let highest = LaneVoucher { voucher: record.voucher.clone(), signature: record.signature };
            self.vouchers.insert(lane, highest);
        }
    }

    fn apply_seal(&mut self, span: Span, seal: &SealRecord) -> Result<Arc<SealedWindow>, LedgerError> {
        self.check_window(seal.window)?;
        let next = Window {
            number: seal.window + 1,
            first_offset: span.end,
            opened_at_ms: seal.at_ms,
            ..Window::default()
        };
        let ended = std::mem::replace(&mut self.current, next);
        let place = WindowSpan {
            window: seal.window,
            first_offset: ended.first_offset,
            last_offset: span.end,
            opened_at_ms: ended.opened_at_ms,
            sealed_at_ms: seal.at_ms,
        };
        let lanes = ended.lanes.iter().filter_map(|lane| self.lane_claim(*lane)).collect();
        let sealed = Arc::new(SealedWindow { span: place, rows: ended.rows, lanes });
        self.spans.push(place);
        self.recent.push_back(sealed.clone());
        if self.recent.len() > self.keep_windows {
            self.recent.pop_front();
            let oldest = self.recent.front().map_or(seal.window, |kept| kept.span.window);
            self.changed.retain(|(window, _)| *window >= oldest);
        }
        Ok(sealed)
    }

    fn lane_claim(&self, lane: (B256, B256)) -> Option<LaneClaim> {
        let highest = self.vouchers.get(&lane)?.clone();
        let served = self.lane_total(Payer::Channel(lane.0), ModelId(lane.1.0));
        Some(LaneClaim { highest, cumulative_pico: served.charge.0 })
    }

    /// All that a payer has used.
    pub fn payer_total(&self, payer: Payer) -> Totals {
        self.payers.get(&payer).copied().unwrap_or_default()
    }

    /// All that a payer has used of a model.
    pub fn lane_total(&self, payer: Payer, model: ModelId) -> Totals {
        self.lanes.get(&(payer, model)).copied().unwrap_or_default()
    }

    /// All that was used of each model, in the order of their ids.
    pub fn by_model(&self) -> Vec<(ModelId, Totals)> {
        self.models.iter().map(|(model, totals)| (*model, *totals)).collect()
    }

    /// The highest voucher of a lane.
    pub fn highest_voucher(&self, channel: B256, lane: B256) -> Option<&LaneVoucher> {
        self.vouchers.get(&(channel, lane))
    }

    /// The open window's number.
    pub fn window(&self) -> u64 {
        self.current.number
    }

    /// All that every payer has used of every model, since the journal began.
    pub fn lanes(&self) -> impl Iterator<Item = (Payer, ModelId, Totals)> {
        self.lanes.iter().map(|((payer, model), totals)| (*payer, *model, *totals))
    }

    /// The open window's totals.
    pub fn window_rows(&self) -> Vec<(Payer, ModelId, Totals)> {
        self.current.rows.iter().map(|((payer, model), totals)| (*payer, *model, *totals)).collect()
    }

    /// When the first call of the open window was closed; `None` while it has none.
    pub fn first_close_at_ms(&self) -> Option<u64> {
        self.current.first_close_at_ms
    }

    /// Whether a call is open.
    pub fn is_open(&self, call: CallId) -> bool {
        self.open.contains_key(&call)
    }

    /// How many calls are open.
    pub fn open_calls(&self) -> usize {
        self.open.len()
    }

    /// The open calls, in the order of their ids.
    pub fn open_records(&self) -> Vec<OpenRecord> {
        let mut open: Vec<_> = self.open.values().copied().collect();
        open.sort_by_key(|open| open.call);
        open
    }

    /// The windows' places in the journal.
    pub fn spans(&self) -> Spans {
        Spans { sealed: self.spans.clone(), open_offset: self.current.first_offset }
    }

    /// The window sealed last, while it is kept.
    pub(crate) fn last_sealed(&self) -> Option<Arc<SealedWindow>> {
        self.recent.back().cloned()
    }

    /// The sealed windows whose totals are kept.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &Arc<SealedWindow>> {
        self.recent.iter()
    }

    /// A kept or the open window's totals.
    pub(crate) fn rows_of(&self, window: u64) -> Option<&BTreeMap<RowKey, Totals>> {
        if window == self.current.number {
            return Some(&self.current.rows);
        }
        self.recent.iter().find(|sealed| sealed.span.window == window).map(|sealed| &sealed.rows)
    }

    /// The rows that changed since the last time this was asked.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<(u64, RowKey)> {
        std::mem::take(&mut self.changed)
    }
}

impl Totals {
    /// These totals and one more call; `None` on overflow.
    pub fn plus(&self, close: &CallRecord) -> Option<Self> {
        Some(Self {
            calls: self.calls.checked_add(1)?,
            prompt_tokens: self.prompt_tokens.checked_add(close.usage.prompt_tokens.into())?,
            completion_tokens: self.completion_tokens.checked_add(close.usage.completion_tokens.into())?,
            charge: self.charge.checked_add(close.charge)?,
        })
    }

    /// These totals and others; `None` on overflow.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            calls: self.calls.checked_add(other.calls)?,
            prompt_tokens: self.prompt_tokens.checked_add(other.prompt_tokens)?,
            completion_tokens: self.completion_tokens.checked_add(other.completion_tokens)?,
            charge: self.charge.checked_add(other.charge)?,
        })
    }
}

impl LaneVoucher {
    /// Whether this voucher is worth at least as much as `other`: a higher amount, or the same for at least as long.
    pub fn covers(&self, other: &Voucher) -> bool {
        let worth = |voucher: &Voucher| (voucher.maxCumulative, voucher.expiry);
        worth(&self.voucher) >= worth(other)
    }
}
