//! The gateway's parts, shared by every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use dividend_chain::eip712::Voucher;
use dividend_chain::{Address, B256};
use dividend_meter::Meter;
use dividend_registry::Snapshot;
use tokio::sync::{Semaphore, watch};

use crate::account::Limits;
use crate::backend::Backends;
use crate::clock::Clock;
use crate::error::{ApiError, GatewayError};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::payment::{Channels, Spent};
use crate::settings::Settings;

/// Windows that are read back from the journal at once, for receipts. Each may take tens of milliseconds of CPU.
const PROOFS_AT_ONCE: usize = 2;

/// What a gateway is made of. Built by whoever starts the process.
pub struct Parts {
    /// The settings at the start; [`Gateway::apply`] changes them.
    pub settings: Settings,
    /// Time.
    pub clock: Clock,
    /// The journal's writer.
    pub meter: Meter,
    /// The chain as last seen.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What computes the answers; may change at any time.
    pub backends: Arc<Backends>,
    /// API keys.
    pub keys: Arc<Keys>,
    /// The operator's account: channels that pay somebody else are refused.
    pub operator: Address,
    /// The token of channel deposits, named in 402 answers.
    pub asset: Address,
    /// The bearer token of the admin API; never empty.
    pub admin_token: String,
}

/// A gateway that serves, or is about to. Shared by all its requests.
pub struct Gateway {
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) clock: Clock,
    pub(crate) meter: Meter,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) backends: Arc<Backends>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) channels: Channels,
    pub(crate) spent: Spent,
    pub(crate) operator: Address,
    pub(crate) asset: Address,
    pub(crate) admin_token: String,
    pub(crate) metrics: Metrics,
    pub(crate) proofs: Semaphore,
    pub(crate) in_flight: Arc<AtomicUsize>,
    draining: AtomicBool,
}

impl Gateway {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`GatewayError::Metrics`] if a metric cannot be registered.
    pub fn new(parts: Parts) -> Result<Arc<Self>, GatewayError> {
        let limits = parts.settings.limits;
        parts.keys.set_defaults(limits, parts.clock.monotonic_ms());
        Ok(Arc::new(Self {
            channels: Channels::new(limits),
            spent: Spent::default(),
            metrics: Metrics::new()?,
            proofs: Semaphore::new(PROOFS_AT_ONCE),
            in_flight: Arc::default(),
            draining: AtomicBool::new(false),
            settings: ArcSwap::from_pointee(parts.settings),
            clock: parts.clock,
            meter: parts.meter,
            snapshots: parts.snapshots,
            backends: parts.backends,
            keys: parts.keys,
            operator: parts.operator,
            asset: parts.asset,
            admin_token: parts.admin_token,
        }))
    }

    /// Puts new settings in force for the requests to come. Those in flight keep what they began with, and nothing
    /// that was used of a limit is forgotten. Addresses of listeners are not changed.
    pub fn apply(&self, settings: Settings) {
        let limits: Limits = settings.limits;
        let now_ms = self.clock.monotonic_ms();
        self.settings.store(Arc::new(settings));
        self.keys.set_defaults(limits, now_ms);
        self.channels.set_limits(limits, now_ms);
        tracing::info!(?limits, "settings are in force");
    }

    /// Refuses new calls from now on; those in flight go on. There is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether [`Gateway::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Requests that are being answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Whether a voucher, or one that may have been it, has paid for a call.
    pub(crate) fn has_paid(&self, voucher: &Voucher) -> bool {
        let journaled = self.journaled_pico(voucher.channel, voucher.lane);
        self.spent.has((voucher.channel, voucher.lane), journaled, voucher.maxCumulative)
    }

    /// The lane's highest voucher in the journal, in pico-dollars.
    pub(crate) fn journaled_pico(&self, channel: B256, lane: B256) -> u128 {
        self.meter.highest_voucher(channel, lane).map_or(0, |highest| highest.voucher.maxCumulative)
    }

    /// The chain as last seen, however old.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// The chain as last seen, unless that is too long ago to serve paid calls by.
    pub(crate) fn fresh_snapshot(&self) -> Result<Arc<Snapshot>, ApiError> {
        let snapshot = self.snapshot();
        let age_ms = u64::try_from(snapshot.age(Instant::now()).as_millis()).unwrap_or(u64::MAX);
        let limit_ms = self.settings.load().max_snapshot_age_ms;
        if age_ms > limit_ms {
            return Err(ApiError::SnapshotStale { age_ms, limit_ms });
        }
        Ok(snapshot)
    }
}

/// A gateway over an empty chain and an empty journal, and the folder it lives in. For tests of its parts.
#[cfg(test)]
pub(crate) fn sample(change: impl FnOnce(&mut Settings)) -> (Arc<Gateway>, tempfile::TempDir) {
    use dividend_chain::{B256, Key};
    use dividend_meter::{Deployment, MeterOptions, Operator, SystemClock};

    let dir = tempfile::tempdir().expect("a folder");
    let mut settings = Settings::from(&dividend_config::Settings::default());
    change(&mut settings);
    let key = Key::from_bytes(B256::repeat_byte(7)).expect("a valid scalar");
    let operator = key.address();
    let deployment = Deployment { chain_id: 1, usage_ledger: Address::ZERO, payment_channels: Address::ZERO };
    let options = MeterOptions { slots: 16, ..MeterOptions::default() };
    let signer = Operator { key, deployment };
    let (meter, _) =
        Meter::open(&dir.path().join("journal"), options, signer, Arc::new(SystemClock)).expect("a journal");
    let keys = Keys::open(&dir.path().join("keys.redb"), settings.limits).expect("a store");
    let snapshot = Snapshot::fixture(
        dividend_registry::BlockRef::default(),
        Instant::now(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        dividend_registry::EscrowView::default(),
    );
    let parts = Parts {
        settings,
        clock: Clock::manual(1_700_000_000_000),
        meter,
        snapshots: watch::channel(Arc::new(snapshot)).1,
        backends: Arc::default(),
        keys: Arc::new(keys),
        operator,
        asset: Address::ZERO,
        admin_token: "token".to_owned(),
    };
    (Gateway::new(parts).expect("parts that fit"), dir)
}
