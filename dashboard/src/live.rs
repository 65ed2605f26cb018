//! The moments of a running stack: the follower's snapshots, the journal that `serve` writes, the ledger that `settle`
//! owns.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dividend_chain::B256;
use dividend_config::Prices;
use dividend_meter::{Clock, LiveLedger, Payer, SystemClock, Totals};
use dividend_registry::{ModelId, Snapshot};
use dividend_settlement::LaneTotals;
use dividend_settlement::ledger::Ledger;
use dividend_settlement::records::WindowRecord;
use dividend_settlement::transitions::State;
use tokio::sync::watch;

use crate::moment::{Moment, Source, WindowRow, WindowState};

/// Pause between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Age of the chain's view from which readers are told.
const STALE_CHAIN: Duration = Duration::from_secs(30);
/// Windows that are read of the live journal.
const RECENT_WINDOWS: u64 = 32;

/// Where a running stack keeps what pages show.
pub struct LiveInputs {
    /// The follower's snapshots.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The meter's folder; read without its lock.
    pub journal_dir: PathBuf,
    /// Settlement's ledger.
    pub ledger: Arc<Ledger>,
    /// The operator's prices.
    pub prices: Prices,
}

/// The newest moment of a running stack, renewed twice a second.
#[derive(Clone, Debug)]
pub struct LiveSource {
    newest: watch::Receiver<Arc<Moment>>,
}

impl LiveSource {
    /// Takes a first moment and keeps renewing it until `shutdown` resolves.
    pub async fn start(inputs: LiveInputs, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut reader = Reader::new(inputs);
        let first = reader.moment();
        let (sender, newest) = watch::channel(Arc::new(first));
        tokio::spawn(async move {
            tokio::pin!(shutdown);
            loop {
                // Files are read on a thread where that may take its time.
                let looked = tokio::task::spawn_blocking(move || {
                    let moment = reader.moment();
                    (reader, moment)
                });
                let Ok((back, moment)) = looked.await else {
                    tracing::error!("the dashboard's reader failed; its pages stand still");
                    return;
                };
                reader = back;
                sender.send_replace(Arc::new(moment));
                tokio::select! {
                    () = &mut shutdown => return,
                    () = tokio::time::sleep(PERIOD) => {}
                }
            }
        });
        Self { newest }
    }
}

impl Source for LiveSource {
    fn moment(&self) -> Arc<Moment> {
        self.newest.borrow().clone()
    }
}

struct Reader {
    inputs: LiveInputs,
    journal: LiveLedger,
    /// What earlier journals add up to, once the live journal is known.
    earlier: Option<(B256, Earlier)>,
}

/// Sums of the journals before the live one.
#[derive(Clone, Debug, Default)]
struct Earlier {
    lanes: BTreeMap<(Payer, ModelId), u128>,
}

impl Reader {
    fn new(inputs: LiveInputs) -> Self {
        let journal = LiveLedger::new(&inputs.journal_dir);
        Self { inputs, journal, earlier: None }
    }

    fn moment(&mut self) -> Moment {
        let mut problems = Vec::new();
        if let Err(error) = self.journal.refresh() {
            problems.push(format!("The journal cannot be read further: {error}"));
        }
        if let Err(error) = self.learn_earlier() {
            problems.push(format!("Settlement's ledger cannot be read: {error}"));
        }
        let windows = self.windows().unwrap_or_else(|error| {
            problems.push(format!("Settlement's ledger cannot be read: {error}"));
            Vec::new()
        });
        let snapshot = self.inputs.snapshots.borrow().clone();
        let age = snapshot.age(Instant::now());
        if age > STALE_CHAIN {
            problems.push(format!("The chain was last seen {} seconds ago.", age.as_secs()));
        }
        let (lanes, usage) = self.totals().unwrap_or_else(|error| {
            problems.push(format!("Totals cannot be added up: {error}"));
            Default::default()
        });
        let at_ms = SystemClock.now_ms();
        Moment { at_ms, snapshot, lanes, usage, windows, prices: self.inputs.prices.clone(), problems }
    }

    /// Adds up the windows of other journals, whose totals no longer change, when the live journal becomes known.
    fn learn_earlier(&mut self) -> dividend_settlement::Result<()> {
        let Some(live) = self.journal.journal_id() else { return Ok(()) };
        if self.earlier.as_ref().is_some_and(|(journal, _)| *journal == live) {
            return Ok(());
        }
        let mut earlier = Earlier::default();
        for (journal, _) in self.inputs.ledger.journals()? {
            if journal != live {
                self.inputs.ledger.windows_from(journal, 0)?.iter().for_each(|window| earlier.add(window));
            }
        }
        self.earlier = Some((live, earlier));
        Ok(())
    }

    fn totals(&self) -> dividend_settlement::Result<(LaneTotals, BTreeMap<ModelId, Totals>)> {
        let mut lanes = LaneTotals::default();
        let mut usage = BTreeMap::new();
        if let Some(ledger) = self.journal.ledger() {
            usage.extend(ledger.by_model());
            for (payer, model, totals) in ledger.lanes() {
                lanes.add(&payer, model, totals.charge.0)?;
            }
        }
        for ((payer, model), pico) in self.earlier.iter().flat_map(|(_, earlier)| &earlier.lanes) {
            lanes.add(payer, *model, *pico)?;
            let charge = &mut usage.entry(*model).or_default().charge.0;
            *charge = charge.saturating_add(*pico);
        }
        Ok((lanes, usage))
    }

    fn windows(&self) -> dividend_settlement::Result<Vec<WindowRow>> {
        let (Some(journal), Some(ledger)) = (self.journal.journal_id(), self.journal.ledger()) else {
            return Ok(Vec::new());
        };
        let open_rows = ledger.window_rows();
        let models: std::collections::BTreeSet<_> = open_rows.iter().map(|(_, model, _)| *model).collect();
        let charge_pico =
            open_rows.iter().fold(0u128, |sum, (_, _, totals)| sum.saturating_add(totals.charge.0));
        let mut windows = vec![WindowRow {
            journal,
            window: ledger.window(),
            state: WindowState::Open,
            since_ms: ledger
                .spans()
                .sealed
                .last()
                .map_or_else(|| SystemClock.now_ms(), |span| span.sealed_at_ms),
            models: models.len(),
            charge_pico,
            gas_used: 0,
        }];
        let from = ledger.window().saturating_sub(RECENT_WINDOWS);
        let settled = self.inputs.ledger.windows_from(journal, from)?;
        windows.extend(settled.iter().rev().map(window_row));
        Ok(windows)
    }
}

impl Earlier {
    fn add(&mut self, window: &WindowRecord) {
        for row in &window.rows {
            // All keys of a model are one lane: whose key it was does not matter here.
            let prepaid = self.lanes.entry((Payer::Key([0; 32]), ModelId::from(row.model))).or_default();
            *prepaid = prepaid.saturating_add(row.prepaid_pico);
        }
        for lane in &window.lanes {
            // A lane's figure is a running total over journals: the latest is the highest.
            let total =
                self.lanes.entry((Payer::Channel(lane.channel), ModelId::from(lane.model))).or_default();
            *total = (*total).max(lane.served_pico);
        }
    }
}

fn window_row(record: &WindowRecord) -> WindowRow {
    let charge = |sum: u128, pico: u128| sum.saturating_add(pico);
    WindowRow {
        journal: record.key.journal,
        window: record.key.window,
        state: match record.state() {
            State::Sealed => WindowState::Sealed,
            State::Signed => WindowState::Signed,
            State::Submitted => WindowState::Submitted,
            State::Confirmed => WindowState::Confirmed,
        },
        since_ms: record.progress.since_ms,
        models: record.rows.len(),
        charge_pico: record.rows.iter().flat_map(|row| [row.prepaid_pico, row.channel_pico]).fold(0, charge),
        gas_used: record.gas_used,
    }
}
