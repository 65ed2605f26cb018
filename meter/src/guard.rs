//! The guard that closes a call, whatever ends it.

use std::sync::Arc;

use dividend_chain::eip712::Receipt;
use tokio::sync::watch;

use crate::commit::CommitState;
use crate::journal::OpenRecord;
use crate::meter::Inner;
use crate::{CallId, CallRecord, CloseReason, Durability, MeterError, Usage, receipt};

/// An open call. Counting is a few nanoseconds and never blocks; closing appends one record.
///
/// Dropped without [`CallGuard::close`], it closes the call as cancelled, or as panicked while its thread unwinds. If the
/// disk takes no record at that moment, the count stays in its slot and is closed later.
#[must_use = "dropping the guard closes the call as cancelled"]
pub struct CallGuard {
    meter: Arc<Inner>,
    open: OpenRecord,
    slot: u32,
    closed: bool,
}

impl CallGuard {
    pub(crate) fn new(meter: Arc<Inner>, open: OpenRecord, slot: u32) -> Self {
        Self { meter, open, slot, closed: false }
    }

    /// The call's id, which is its receipt's.
    pub fn id(&self) -> CallId {
        self.open.call
    }

    /// Counts prompt tokens that have been prefilled.
    pub fn prefilled(&self, tokens: u32) {
        self.meter.slots.add_prompt(self.slot, tokens);
    }

    /// Counts output tokens. Call it **before** the chunk that carries them is written to the client.
    pub fn generated(&self, tokens: u32) {
        self.meter.slots.add_completion(self.slot, tokens);
    }

    /// What has been counted so far.
    pub fn usage(&self) -> Usage {
        self.meter.slots.usage(self.slot)
    }

    /// Appends CLOSE. Call it before the last event goes out.
    ///
    /// # Errors
    /// [`MeterError::Append`] or [`MeterError::Sync`]: the count is kept, and the call closed when the disk takes it.
    pub fn close(mut self, reason: CloseReason) -> Result<Closed, MeterError> {
        self.closed = true;
        let (record, end) = self.meter.close(self.open, self.slot, reason)?;
        let receipt = receipt::receipt(&record, self.meter.journal);
        let durable = match self.meter.options.durability {
            Durability::Process => None,
            Durability::Power => Some(self.meter.commits.subscribe()),
        };
        Ok(Closed { record, receipt, meter: self.meter.clone(), end, durable })
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let reason = if std::thread::panicking() { CloseReason::Panicked } else { CloseReason::Cancelled };
        if let Err(error) = self.meter.close(self.open, self.slot, reason) {
            tracing::error!(call = %self.open.call, %error, "a call's close waits for the disk");
        }
    }
}

/// A closed call: its record, and its receipt to sign.
pub struct Closed {
    /// What the journal holds.
    pub record: CallRecord,
    /// What the operator answers for.
    pub receipt: Receipt,
    meter: Arc<Inner>,
    end: u64,
    durable: Option<watch::Receiver<CommitState>>,
}

impl Closed {
    /// The operator's signature over the receipt, `r ‖ s ‖ v`. Costs about a tenth of a millisecond of CPU, so it is made
    /// only when asked for, outside every lock.
    ///
    /// # Errors
    /// [`MeterError::Sign`].
    pub fn signature(&self) -> Result<[u8; 65], MeterError> {
        let digest = self.meter.deployment.receipt_domain().digest(&self.receipt);
        Ok(self.meter.key.sign(digest)?)
    }

    /// Waits until the record has the promised durability: at once for [`Durability::Process`], after the disk for
    /// [`Durability::Power`]. Await it before the last event goes out.
    ///
    /// # Errors
    /// [`MeterError::Sync`] if the disk failed.
    pub async fn durable(&mut self) -> Result<(), MeterError> {
        let Some(commits) = &mut self.durable else { return Ok(()) };
        let end = self.end;
        let lost = |problem: String| MeterError::Sync { path: self.meter.dir.clone(), problem };
        let state = commits.wait_for(|state| state.durable >= end || state.failure.is_some()).await;
        match state.map(|state| state.failure.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(lost(problem)),
            Err(_) => Err(lost("the committer stopped".into())),
        }
    }
}

impl std::fmt::Debug for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Closed")
            .field("record", &self.record)
            .field("receipt", &self.receipt)
            .finish_non_exhaustive()
    }
}
