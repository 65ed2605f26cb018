//! The settler: one owner of the ledger, working in turns.
//!
//! A turn reads new seals, signs, submits, and confirms what is final; any step may fail and the next turn takes it up
//! from the ledger. Nothing else writes to the ledger, the claims or the operator's transactions.

mod batches;
mod escrow;
mod probe;
mod report;
mod run;
mod windows;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::B256;
use dividend_chain::Key;
use dividend_config::Settlement;
use dividend_meter::{Clock, Deployment};
use tokio::sync::watch;

pub use probe::{NoProbe, Point, Probe};
pub use report::{HeldLane, Problem, Report};

use crate::books::{Books, Heights};
use crate::ledger::Ledger;
use crate::records::WindowKey;
use crate::seals::SealDir;
use crate::{Error, Result};

/// Where settlement's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The meter's seals: read, never written.
    pub seals: PathBuf,
    /// The ledger.
    pub ledger: PathBuf,
    /// Published claims.
    pub claims: PathBuf,
    /// The socket at which a running settler takes requests.
    pub socket: PathBuf,
}

impl Paths {
    /// The paths within a home.
    pub fn of_home(home: &Path) -> Self {
        let settle = home.join("settle");
        Self {
            seals: home.join("serve").join("seals"),
            ledger: settle.join("ledger.redb"),
            claims: settle.join("claims"),
            socket: settle.join("control.sock"),
        }
    }

    fn create(&self) -> Result<()> {
        let parents = [self.ledger.parent(), self.socket.parent(), Some(self.claims.as_path())];
        for dir in parents.into_iter().flatten() {
            std::fs::create_dir_all(dir).map_err(|error| Error::store(dir, error))?;
        }
        Ok(())
    }
}

/// Who settles, for which contracts, and how eagerly.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Signs claims; the contracts' operator.
    pub key: Key,
    /// The contracts.
    pub deployment: Deployment,
    /// Thresholds.
    pub settings: Settlement,
}

/// See the module's text.
pub struct Settler<B> {
    paths: Paths,
    books: B,
    operator: Operator,
    clock: Arc<dyn Clock>,
    probe: Arc<dyn Probe>,
    ledger: Arc<Ledger>,
    seals: SealDir,
    /// The journal whose seals are in the folder.
    journal: Option<B256>,
    /// Whether the chain's figures for the lanes were read since the start or the last roll-back.
    lanes_fresh: bool,
    /// Windows whose claims this process has published; a restart publishes those of open windows again.
    published: BTreeSet<WindowKey>,
    status: watch::Sender<Report>,
}

impl<B: Books> Settler<B> {
    /// Opens the ledger and makes the folders.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process settles from the same ledger, [`Error::ForeignLedger`] if the ledger was made
    /// for other contracts or another operator, [`Error::Store`].
    pub fn open(paths: Paths, books: B, operator: Operator, clock: Arc<dyn Clock>) -> Result<Self> {
        paths.create()?;
        let identity = format!("{}, operator {}", operator.deployment, operator.key.address());
        let ledger = Arc::new(Ledger::open(&paths.ledger, &identity)?);
        let seals = SealDir::new(&paths.seals);
        Ok(Self {
            paths,
            books,
            operator,
            clock,
            probe: Arc::new(NoProbe),
            ledger,
            seals,
            journal: None,
            lanes_fresh: false,
            published: BTreeSet::new(),
            status: watch::Sender::new(Report::default()),
        })
    }

    /// Has every persisted step and every effect announced to `probe`, which can stop the settler there.
    #[must_use]
    pub fn with_probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probe = probe;
        self
    }

    /// The last turn's report, for pages, metrics and readiness.
    pub fn status(&self) -> watch::Receiver<Report> {
        self.status.subscribe()
    }

    /// The ledger, for readers in the same process. Whoever keeps it keeps it locked.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.clone()
    }

    /// One turn. With `flush`, value waits for neither threshold.
    ///
    /// A step that fails is a problem of the report, and the other steps go on.
    ///
    /// # Errors
    /// [`Error::Stopped`] by a probe, and nothing else.
    pub async fn turn(&mut self, flush: bool) -> Result<Report> {
        let mut report = Report { at_ms: self.clock.now_ms(), ..Report::default() };
        report.note("seals", self.read_seals())?;
        report.note("claims", self.sign_windows())?;
        let counted = self.count(&mut report);
        report.note("ledger", counted)?;
        match self.books.heights().await {
            Ok(heights) => self.settle(heights, flush, &mut report).await?,
            Err(error) => report.note("chain", Err(error))?,
        }
        let counted = self.count(&mut report);
        report.note("ledger", counted)?;
        self.status.send_replace(report.clone());
        Ok(report)
    }

    /// What needs the chain.
    async fn settle(&mut self, heights: Heights, flush: bool, report: &mut Report) -> Result<()> {
        (report.head, report.finalized) = (heights.head, heights.finalized);
        let last = self.status.borrow().clone();
        if last.is_settled()
            && (last.head, last.finalized) == (heights.head, heights.finalized)
            && report.is_settled()
        {
            // No new seal, no new block: the chain would answer as before.
            report.keep_books_of(last);
            return Ok(());
        }
        let posted = self.post_windows(heights).await;
        report.note("windows", posted)?;
        let redeemed = self.redeem(heights, flush, report).await;
        report.note("batches", redeemed)?;
        let paid = self.pay_owed(heights, report).await;
        report.note("escrow", paid)
    }

    /// Counts what is open and what is done, by the ledger.
    fn count(&self, report: &mut Report) -> Result<()> {
        report.windows_confirmed = 0;
        report.windows_open.clear();
        for (journal, cursor) in self.ledger.journals()? {
            report.windows_confirmed += cursor.unconfirmed;
            for window in self.ledger.windows_from(journal, cursor.unconfirmed)? {
                report.windows_open.push((window.key, window.state()));
            }
        }
        report.batches_open = self.ledger.open_batches()?.len();
        Ok(())
    }

    fn reached(&self, point: Point) -> Result<()> {
        self.probe.reached(&point)
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}
