//! The one writer of a journal: opens and closes calls, answers what has been consumed, seals windows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::B256;
use dividend_chain::Key;
use dividend_chain::eip712::{Receipt, Voucher};
use dividend_registry::ModelId;

use crate::commit::GroupCommit;
use crate::journal::{JournalError, OpenRecord, Record, VoucherRecord, Writer};
use crate::ledger::{Ledger, SealedWindow};
use crate::lock::LockFile;
use crate::recovery::{self, Recovered};
use crate::run::FoldStatus;
use crate::slots::Slots;
use crate::{
    CallGuard, CallId, CallOpening, CallRecord, Charge, Clock, CloseReason, Deployment, InclusionProof,
    LaneVoucher, MeterError, MeterOptions, Payer, Seal, Totals, receipt, seals,
};

/// Largest price of a token: 1,000 $. Above it, a unit was confused; below it, no total can overflow.
pub const MAX_PICO_PER_TOKEN: u64 = 1_000_000_000_000_000;

/// The writer of one journal. Clones share it.
#[derive(Clone)]
pub struct Meter {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    pub(crate) options: MeterOptions,
    pub(crate) key: Key,
    pub(crate) deployment: Deployment,
    pub(crate) journal: B256,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) slots: Slots,
    pub(crate) commits: GroupCommit,
    pub(crate) fold: FoldStatus,
    core: Mutex<Core>,
    sealing: Mutex<()>,
    _lock: LockFile,
}

/// What the append lock guards: the end of the journal and all that follows from it.
pub(crate) struct Core {
    pub(crate) writer: Writer,
    pub(crate) ledger: Ledger,
    pub(crate) free_slots: Vec<u32>,
    pub(crate) unclosed: Vec<Unclosed>,
    failure: Option<String>,
}

/// A call that has ended but whose CLOSE the disk has not taken. Its slot still holds its count.
pub(crate) struct Unclosed {
    open: OpenRecord,
    slot: u32,
    reason: CloseReason,
    salt: B256,
}

/// Who signs the receipts, and for which contracts.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The operator's key.
    pub key: Key,
    /// The contracts that settle the journal's windows.
    pub deployment: Deployment,
}

/// The state of a meter, for readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why no record can be appended, if none can.
    pub append_error: Option<String>,
    /// Calls in flight.
    pub in_flight: usize,
    /// Ended calls whose CLOSE waits for the disk.
    pub unclosed: usize,
    /// Bytes of journal written.
    pub journal_bytes: u64,
    /// Bytes of journal that have reached the disk.
    pub durable_bytes: u64,
    /// The open window.
    pub window: u64,
    /// Bytes of journal not yet in the aggregate store.
    pub fold_lag_bytes: u64,
    /// When the store last confirmed the totals (unix milliseconds); 0 before the first time.
    pub folded_at_ms: u64,
    /// Why the last attempt to publish totals failed, if it did.
    pub fold_error: Option<String>,
}

impl Meter {
    /// Opens or begins the journal in `dir`, closes what a dead process left open, and starts the group committer's
    /// thread.
    ///
    /// # Errors
    /// [`MeterError::Locked`] if another process has it, [`MeterError::OtherDeployment`] if it was begun for other
    /// contracts, [`MeterError::Journal`] naming file and offset if it is damaged anywhere but in a torn tail.
    pub fn open(
        dir: &Path,
        options: MeterOptions,
        operator: Operator,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered), MeterError> {
        let lock = LockFile::acquire(dir)?;
        let opened = recovery::open(dir, &options, &operator, clock.as_ref())?;
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            commits: GroupCommit::start(opened.writer.position(), options.sync_interval)
                .map_err(MeterError::file(dir))?,
            fold: FoldStatus::default(),
            key: operator.key,
            deployment: operator.deployment,
            journal: opened.writer.journal(),
            clock,
            slots: opened.slots,
            core: Mutex::new(Core {
                free_slots: (0..options.slots).rev().collect(),
                unclosed: Vec::new(),
                failure: None,
                writer: opened.writer,
                ledger: opened.ledger,
            }),
            sealing: Mutex::new(()),
            options,
            _lock: lock,
        });
        Ok((Self { inner }, opened.recovered))
    }

    /// Random bytes made when the journal was begun; they name it in receipts, seals and `postSeal`.
    pub fn journal_id(&self) -> B256 {
        self.inner.journal
    }

    /// The contracts that the journal is settled with.
    pub fn deployment(&self) -> Deployment {
        self.inner.deployment
    }

    /// Appends OPEN and takes a slot. Nothing may be generated for the call before this returns.
    ///
    /// # Errors
    /// [`MeterError::Append`] while the disk takes no records, [`MeterError::SlotsFull`], [`MeterError::DuplicateCall`],
    /// [`MeterError::Price`]. Nothing is metered then.
    pub fn open_call(&self, opening: CallOpening) -> Result<CallGuard, MeterError> {
        for pico_per_token in [opening.price.in_pico_per_token, opening.price.out_pico_per_token] {
            if pico_per_token > MAX_PICO_PER_TOKEN {
                return Err(MeterError::Price { pico_per_token, limit: MAX_PICO_PER_TOKEN });
            }
        }
        let at_ms = self.inner.clock.now_ms();
        let call = opening.call.unwrap_or_else(|| CallId::new(at_ms, random()));
        let open = OpenRecord::new(call, at_ms, &opening);
        let slot = self.inner.open(&open)?;
        Ok(CallGuard::new(self.inner.clone(), open, slot))
    }

    /// Appends a payer's voucher; it must be journaled before the OPEN of the call that it pays. The signature is the
    /// caller's to check. A voucher that is not above the lane's highest one is not appended again.
    ///
    /// # Errors
    /// [`MeterError::Append`] or [`MeterError::Sync`].
    pub fn journal_voucher(&self, voucher: Voucher, signature: [u8; 65]) -> Result<(), MeterError> {
        let at_ms = self.inner.clock.now_ms();
        let mut core = self.inner.core();
        if core
            .ledger
            .highest_voucher(voucher.channel, voucher.lane)
            .is_some_and(|known| known.covers(&voucher))
        {
            return Ok(());
        }
        self.inner.append(&mut core, &Record::Voucher(VoucherRecord { at_ms, voucher, signature }))?;
        Ok(())
    }

    /// All that a payer has been charged, since the journal began.
    pub fn payer_total(&self, payer: Payer) -> Charge {
        self.inner.core().ledger.payer_total(payer).charge
    }

    /// All that a payer has used of a model, since the journal began.
    pub fn lane_total(&self, payer: Payer, model: ModelId) -> Totals {
        self.inner.core().ledger.lane_total(payer, model)
    }

    /// The open window's number and its totals per payer and model.
    pub fn window_totals(&self) -> (u64, Vec<(Payer, ModelId, Totals)>) {
        let core = self.inner.core();
        (core.ledger.window(), core.ledger.window_rows())
    }

    /// All that was charged per model, since the journal began.
    pub fn accrued_by_model(&self) -> Vec<(ModelId, Totals)> {
        self.inner.core().ledger.by_model()
    }

    /// The highest voucher journaled for a lane.
    pub fn highest_voucher(&self, channel: B256, lane: B256) -> Option<LaneVoucher> {
        self.inner.core().ledger.highest_voucher(channel, lane).cloned()
    }

    /// When the window of a call that is closed by `closed_by_ms` is sealed by the timer at the latest (both unix
    /// milliseconds): a window's time begins with its first close. A voucher must outlive it by the channel's withdrawal
    /// delay.
    pub fn sealed_by_ms(&self, closed_by_ms: u64) -> u64 {
        closed_by_ms.saturating_add(self.inner.options.window_ms)
    }

    /// Seals the open window now and writes `seals/<window>.json`. A window without a closed call stays open and keeps its
    /// number, so sealed windows are contiguous and an idle meter posts nothing: then the answer is `None`.
    ///
    /// Blocks for the disk and for reading the window back; call it off the async threads.
    ///
    /// # Errors
    /// [`MeterError::Append`], [`MeterError::Sync`], [`MeterError::Journal`] or [`MeterError::File`]. A seal whose record
    /// was appended but whose file could not be written is written when the meter is next opened.
    pub fn seal_window(&self) -> Result<Option<Seal>, MeterError> {
        let _one_at_a_time = self.inner.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((sealed, end)) = self.inner.append_seal()? else { return Ok(None) };
        self.inner.commits.wait(end).map_err(|problem| self.inner.lost(problem))?;
        let seal = seals::build(&self.inner.dir, self.inner.journal, self.inner.deployment, &sealed)?;
        seals::write(&self.inner.dir, &seal)?;
        Ok(Some(seal))
    }

    /// Whether the timer would seal the window at `now_ms`: its first call closed at least `window_ms` ago.
    pub fn seal_due(&self, now_ms: u64) -> bool {
        let first_close = self.inner.core().ledger.first_close_at_ms();
        first_close.is_some_and(|at| now_ms >= at.saturating_add(self.inner.options.window_ms))
    }

    /// A closed call, found by reading the journal from the window that was open when its id was made.
    ///
    /// # Errors
    /// [`MeterError::UnknownCall`], or [`MeterError::Journal`] if the journal cannot be read.
    pub fn call(&self, call: CallId) -> Result<CallRecord, MeterError> {
        seals::find_call(&self.inner.dir, &self.inner.core().ledger.spans(), call)
    }

    /// The receipt of a closed call and the operator's signature over it, made anew from the record.
    ///
    /// # Errors
    /// [`MeterError::Sign`].
    pub fn sign_receipt(&self, record: &CallRecord) -> Result<(Receipt, [u8; 65]), MeterError> {
        let receipt = receipt::receipt(record, self.inner.journal);
        let signature = self.inner.key.sign(self.inner.deployment.receipt_domain().digest(&receipt))?;
        Ok((receipt, signature))
    }

    /// Proof that a call is in its window's root. Reads the window back from the journal: milliseconds per ten thousand
    /// calls, so bound how many run at once.
    ///
    /// # Errors
    /// [`MeterError::UnknownCall`], [`MeterError::NotSealed`] or [`MeterError::Journal`].
    pub fn proof(&self, call: CallId) -> Result<InclusionProof, MeterError> {
        let spans = self.inner.core().ledger.spans();
        seals::prove(&self.inner.dir, self.inner.journal, &spans, call)
    }

    /// The meter's state, for readiness and metrics.
    pub fn health(&self) -> Health {
        let core = self.inner.core();
        let fold = self.inner.fold.snapshot();
        Health {
            append_error: core.failure.clone().or_else(|| self.inner.commits.failure()),
            in_flight: core.ledger.open_calls(),
            unclosed: core.unclosed.len(),
            journal_bytes: core.writer.position(),
            durable_bytes: self.inner.commits.durable(),
            window: core.ledger.window(),
            fold_lag_bytes: core.writer.position().saturating_sub(fold.confirmed),
            folded_at_ms: fold.at_ms,
            fold_error: fold.error,
        }
    }
}

impl Inner {
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock leaves at worst an append undone: `Core` is changed only after the write.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, open: &OpenRecord) -> Result<u32, MeterError> {
        let mut core = self.core();
        self.close_unclosed(&mut core)?;
        if core.ledger.is_open(open.call) {
            return Err(MeterError::DuplicateCall(open.call));
        }
        let slot = core.free_slots.pop().ok_or(MeterError::SlotsFull { slots: self.options.slots })?;
        self.slots.claim(slot, open.call);
        match self.append(&mut core, &Record::Open(*open)) {
            Ok(_) => Ok(slot),
            Err(error) => {
                self.slots.release(slot);
                core.free_slots.push(slot);
                Err(error)
            }
        }
    }

    /// Appends CLOSE with the slot's count and frees the slot; answers the record and the journal's end. If the disk
    /// refuses, the call is kept and tried again before every later call and on every tick of the committer.
    pub(crate) fn close(
        &self,
        open: OpenRecord,
        slot: u32,
        reason: CloseReason,
    ) -> Result<(CallRecord, u64), MeterError> {
        let unclosed = Unclosed { open, slot, reason, salt: B256::from(random()) };
        let mut core = self.core();
        let closed = self.close_unclosed(&mut core).and_then(|()| self.append_close(&mut core, &unclosed));
        if closed.is_err() {
            core.unclosed.push(unclosed);
        }
        closed
    }

    /// Closes the calls that the disk refused before.
    pub(crate) fn close_unclosed(&self, core: &mut Core) -> Result<(), MeterError> {
        while let Some(unclosed) = core.unclosed.pop() {
            if let Err(error) = self.append_close(core, &unclosed) {
                core.unclosed.push(unclosed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn append_close(&self, core: &mut Core, unclosed: &Unclosed) -> Result<(CallRecord, u64), MeterError> {
        let usage = self.slots.usage(unclosed.slot);
        let record = unclosed.open.close(
            self.clock.now_ms(),
            core.ledger.window(),
            usage,
            unclosed.reason,
            unclosed.salt,
        );
        let end = self.append(core, &Record::Close(record))?;
        self.slots.release(unclosed.slot);
        core.free_slots.push(unclosed.slot);
        Ok((record, end))
    }

    fn append_seal(&self) -> Result<Option<(Arc<SealedWindow>, u64)>, MeterError> {
        let mut core = self.core();
        if core.ledger.first_close_at_ms().is_none() {
            return Ok(None);
        }
        let window = core.ledger.window();
        let end = self.append(&mut core, &Record::seal(window, self.clock.now_ms()))?;
        Ok(core.ledger.last_sealed().map(|sealed| (sealed, end)))
    }

    pub(crate) fn lost(&self, problem: String) -> MeterError {
        MeterError::Sync { path: self.dir.clone(), problem }
    }

    /// Appends a record and applies it to the ledger; answers the journal's end.
    fn append(&self, core: &mut Core, record: &Record) -> Result<u64, MeterError> {
        if let Some(problem) = self.commits.failure() {
            return Err(self.lost(problem));
        }
        match core.writer.append(record) {
            Ok(span) => {
                core.failure = None;
                core.ledger
                    .apply(span, record)
                    .map_err(|problem| JournalError::corrupt(core.writer.path(), span.start, problem))?;
                self.commits.written(span.end, core.writer.file());
                Ok(span.end)
            }
            Err(error) => {
                core.failure = Some(error.to_string());
                // A close that is being tried is not in the list, and waits like those that are.
                let unclosed = core.unclosed.len() + usize::from(matches!(record, Record::Close(_)));
                let path = core.writer.path().to_owned();
                Err(MeterError::Append { path, problem: error.to_string(), unclosed })
            }
        }
    }
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
