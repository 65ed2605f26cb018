//! What a meter does by itself: the fold, the window's timer, and retries of refused closes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::aggregate::{AggregateStore, Fold};
use crate::{Meter, MeterError, Seal};

/// Longest pause between two attempts to reach a store that fails.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long the last publication may take while shutting down.
const LAST_FOLD: Duration = Duration::from_secs(2);

/// What the fold last achieved.
#[derive(Default)]
pub(crate) struct FoldStatus(watch::Sender<FoldState>);

#[derive(Clone, Debug, Default)]
pub(crate) struct FoldState {
    pub(crate) confirmed: u64,
    pub(crate) at_ms: u64,
    pub(crate) error: Option<String>,
}

impl FoldStatus {
    pub(crate) fn snapshot(&self) -> FoldState {
        self.0.borrow().clone()
    }
}

impl Meter {
    /// Publishes totals to `store`, seals windows when they are due and retries refused closes, until `shutdown`; then
    /// publishes once more. A tokio task of the process that owns the meter runs it. A failing store is retried with
    /// backoff and never reaches a call; [`Meter::health`] shows it.
    pub async fn run<S: AggregateStore>(&self, store: S, shutdown: impl Future<Output = ()> + Send) {
        let mut fold = Fold::new(self.inner.clone(), store);
        let mut ticks = tokio::time::interval(self.inner.options.fold_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::default();
        let mut sealing = None;
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = ticks.tick() => {}
            }
            self.retry_closes();
            self.seal_if_due(&mut sealing).await;
            if backoff.is_over() {
                tokio::select! {
                    () = &mut shutdown => break,
                    result = fold.tick() => self.note(result, &mut backoff),
                }
            }
        }
        if let Some(sealing) = sealing.take() {
            note_seal(sealing.await);
        }
        match tokio::time::timeout(LAST_FOLD, fold.tick()).await {
            Ok(result) => self.note(result, &mut backoff),
            Err(_) => tracing::warn!(
                "the aggregate store did not take the last totals; they follow at the next start"
            ),
        }
    }

    /// Waits until the aggregate store has confirmed everything that was journaled before this was called. Waits for ever
    /// while the store is away or [`Meter::run`] does not run.
    pub async fn folded(&self) {
        let position = self.inner.core().writer.position();
        let mut states = self.inner.fold.0.subscribe();
        // The sender lives in the meter, so the wait cannot end otherwise.
        let _ = states.wait_for(|state| state.confirmed >= position && state.error.is_none()).await;
    }

    fn retry_closes(&self) {
        let mut core = self.inner.core();
        if let Err(error) = self.inner.close_unclosed(&mut core) {
            tracing::warn!(%error, "ended calls wait to be closed");
        }
    }

    /// Starts a seal on a blocking thread when one is due and none is under way.
    async fn seal_if_due(&self, sealing: &mut Option<JoinHandle<Result<Option<Seal>, MeterError>>>) {
        if let Some(finished) = sealing.take_if(|sealing| sealing.is_finished()) {
            note_seal(finished.await);
        }
        if sealing.is_none() && self.seal_due(self.inner.clock.now_ms()) {
            let meter = self.clone();
            *sealing = Some(tokio::task::spawn_blocking(move || meter.seal_window()));
        }
    }

    fn note(&self, result: Result<u64, crate::aggregate::StoreError>, backoff: &mut Backoff) {
        let now_ms = self.inner.clock.now_ms();
        match result {
            Ok(confirmed) => {
                backoff.reset();
                self.inner
                    .fold
                    .0
                    .send_modify(|state| *state = FoldState { confirmed, at_ms: now_ms, error: None });
            }
            Err(error) => {
                if backoff.extend() {
                    tracing::warn!(%error, "totals wait for the aggregate store");
                }
                self.inner.fold.0.send_modify(|state| state.error = Some(error.to_string()));
            }
        }
    }
}

fn note_seal(finished: Result<Result<Option<Seal>, MeterError>, tokio::task::JoinError>) {
    match finished {
        Ok(Ok(Some(seal))) => tracing::info!(window = seal.window, digest = %seal.digest, "sealed"),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::error!(%error, "the window could not be sealed"),
        Err(error) => tracing::error!(%error, "sealing panicked"),
    }
}

/// A pause that doubles from a tenth of a second.
#[derive(Default)]
struct Backoff {
    pause: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    /// Doubles the pause; answers whether this was the first failure of its row.
    fn extend(&mut self) -> bool {
        let is_first = self.pause.is_none();
        let pause = self.pause.map_or(Duration::from_millis(100), |pause| (pause * 2).min(MAX_BACKOFF));
        self.pause = Some(pause);
        self.until = Some(Instant::now() + pause);
        is_first
    }
}
