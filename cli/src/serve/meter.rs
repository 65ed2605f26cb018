//! The meter of this node: the journal's writer and what keeps the aggregate.

use std::sync::Arc;
use std::time::Duration;

use dividend_chain::Deployment;
use dividend_config::Settings;
use dividend_meter::aggregate::{MemoryStore, RedisStore};
use dividend_meter::{Meter, MeterOptions, Operator, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::home::Home;

/// A meter that runs.
pub(super) struct Running {
    /// Writes the journal.
    pub(super) writer: Meter,
    shutdown: CancellationToken,
    fold: JoinHandle<()>,
}

/// Opens the journal, closes what a dead process left open, and starts publishing totals: to Redis if the settings name
/// one, to memory otherwise.
pub(super) async fn start(
    home: &Home,
    settings: &Settings,
    deployment: &Deployment,
) -> anyhow::Result<Running> {
    let operator = Operator { key: super::operator_key(home)?, deployment: contracts(deployment) };
    let (dir, options) = (home.path("serve"), options(settings));
    let open = move || Meter::open(&dir, options, operator, Arc::new(SystemClock));
    let (writer, recovered) = tokio::task::spawn_blocking(open).await??;
    tracing::info!(
        journal = %writer.journal_id(), records = recovered.records, closed = recovered.closed.len(),
        cut_bytes = recovered.cut_bytes, "journal open"
    );
    let shutdown = CancellationToken::new();
    let (meter, ended) = (writer.clone(), shutdown.clone().cancelled_owned());
    let fold = match &settings.redis.url {
        Some(url) => {
            let store = RedisStore::new(url)?;
            tokio::spawn(async move { meter.run(store, ended).await })
        }
        None => tokio::spawn(async move { meter.run(MemoryStore::default(), ended).await }),
    };
    Ok(Running { writer, shutdown, fold })
}

impl Running {
    /// Seals the open window, so that nothing waits for a node that may not come back, publishes the last totals and
    /// lets go of the journal.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let writer = self.writer.clone();
        let sealed = tokio::task::spawn_blocking(move || writer.seal_window()).await?;
        self.shutdown.cancel();
        self.fold.await?;
        if let Some(seal) = sealed? {
            tracing::info!(window = seal.window, "sealed the open window");
        }
        Ok(())
    }
}

/// The contracts as the journal names them.
pub(crate) fn contracts(deployment: &Deployment) -> dividend_meter::Deployment {
    dividend_meter::Deployment {
        chain_id: deployment.chain_id,
        usage_ledger: deployment.contracts.usage_ledger,
        payment_channels: deployment.contracts.payment_channels,
    }
}

fn options(settings: &Settings) -> MeterOptions {
    let section = &settings.meter;
    MeterOptions {
        segment_bytes: section.segment_bytes,
        slots: section.slots,
        durability: match section.durability {
            dividend_config::Durability::Process => dividend_meter::Durability::Process,
            dividend_config::Durability::Power => dividend_meter::Durability::Power,
        },
        window_ms: section.window_ms,
        fold_interval: Duration::from_millis(section.fold_interval_ms),
        sync_interval: Duration::from_millis(section.sync_interval_ms),
        ..MeterOptions::default()
    }
}
