//! What is known at one moment, and where it comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use dividend_chain::B256;
use dividend_config::Prices;
use dividend_meter::Totals;
use dividend_registry::{ModelId, Snapshot};
use dividend_settlement::LaneTotals;
use serde::Serialize;

/// Where pages get their figures: [`crate::LiveSource`] of a running stack, or a fixed moment.
pub trait Source: Send + Sync + 'static {
    /// The newest moment. Must not block: it is called for every request.
    fn moment(&self) -> Arc<Moment>;
}

/// Everything that a page may show, taken together.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When it was taken, unix milliseconds.
    pub at_ms: u64,
    /// Lineage, terms, credits and claims.
    pub snapshot: Arc<Snapshot>,
    /// Every lane's charges over all journals, open windows included.
    pub lanes: LaneTotals,
    /// Calls, tokens and charges by model.
    pub usage: BTreeMap<ModelId, Totals>,
    /// Windows, newest first.
    pub windows: Vec<WindowRow>,
    /// The operator's prices.
    pub prices: Prices,
    /// What could not be read, in sentences.
    pub problems: Vec<String>,
}

/// A window of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowRow {
    /// The journal's id.
    pub journal: B256,
    /// The window's number.
    pub window: u64,
    /// How far it has come.
    pub state: WindowState,
    /// When it came there, unix milliseconds.
    pub since_ms: u64,
    /// Models with calls in it.
    pub models: usize,
    /// Charged in it, pico-dollars.
    #[serde(serialize_with = "crate::format::decimal")]
    pub charge_pico: u128,
    /// Gas that posting it took; 0 until confirmed.
    pub gas_used: u64,
}

/// How far a window has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowState {
    /// Calls are still closed in it.
    Open,
    /// Closed for ever; known to settlement.
    Sealed,
    /// The operator's claims are signed.
    Signed,
    /// Its transactions are with the chain.
    Submitted,
    /// Final on the chain.
    Confirmed,
}

impl WindowState {
    /// The state as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Signed => "signed",
            Self::Submitted => "submitted",
            Self::Confirmed => "confirmed",
        }
    }
}

/// A moment that never changes is a source of itself.
impl Source for Arc<Moment> {
    fn moment(&self) -> Arc<Moment> {
        self.clone()
    }
}
