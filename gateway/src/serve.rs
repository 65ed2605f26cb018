//! Listening, accepting, and the orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, ConnectionLimits};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::settings::Settings;
use crate::stack::{self, Face};

/// Admin connections at once: an operator, a dashboard and a few scrapers.
const ADMIN_CONNECTIONS: usize = 64;
/// Pause after a failed `accept`, which is nearly always a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The two listeners, bound and not yet served.
pub struct Listeners {
    api: TcpListener,
    admin: TcpListener,
    addresses: (SocketAddr, SocketAddr),
}

impl Listeners {
    /// Binds both addresses of the settings; port 0 takes a free one.
    ///
    /// # Errors
    /// [`GatewayError::Bind`] naming the address and the setting.
    pub async fn bind(settings: &Settings) -> Result<Self, GatewayError> {
        let (api, api_address) = bind(settings.gateway.listen, "listen").await?;
        let (admin, admin_address) = bind(settings.gateway.admin_listen, "admin_listen").await?;
        Ok(Self { api, admin, addresses: (api_address, admin_address) })
    }

    /// Where the API is.
    pub fn api(&self) -> SocketAddr {
        self.addresses.0
    }

    /// Where the admin API and the metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.addresses.1
    }
}

async fn bind(address: SocketAddr, setting: &'static str) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Bind { address, setting, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Serves until `shutdown` is done, then drains: accepts nothing more, answers what is in flight, and cuts what is
/// still in flight after `drain_ms`. A call that is cut is closed in the journal like any other.
///
/// # Errors
/// [`GatewayError::Journal`] if calls could not be closed in the journal; the next start recovers them.
pub async fn serve(
    gateway: Arc<Gateway>,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    let settings = gateway.settings.load_full();
    let tasks = Tasks::default();
    let api = tasks.accept(&gateway, listeners.api, Face::Api, settings.gateway.max_connections as usize);
    let admin = tasks.accept(&gateway, listeners.admin, Face::Admin, ADMIN_CONNECTIONS);
    tokio::select! {
        () = shutdown => {}
        () = api => {}
        () = admin => {}
    }
    gateway.drain();
    let in_flight = gateway.in_flight();
    let patience = Duration::from_millis(gateway.settings.load().gateway.drain_ms);
    tracing::info!(in_flight, patience_ms = patience.as_millis(), "draining");
    tasks.finish(patience).await;
    let health = gateway.meter.health();
    match health.append_error {
        Some(problem) => Err(GatewayError::Journal(problem)),
        None => Ok(()),
    }
}

/// Every connection's task, and the two ways to end them.
#[derive(Default)]
struct Tasks {
    tracker: TaskTracker,
    /// Finish the request in flight, then close.
    drain: CancellationToken,
    /// Close.
    cut: CancellationToken,
}

impl Tasks {
    /// Accepts connections until dropped. When `most` are open, the next one waits in the kernel's backlog.
    async fn accept(&self, gateway: &Arc<Gateway>, listener: TcpListener, face: Face, most: usize) {
        let places = Arc::new(Semaphore::new(most));
        let service = stack::service(gateway.clone(), face);
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept; raise the limit of open files if this goes on");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            self.spawn(gateway, stream, service.clone(), place);
        }
    }

    fn spawn(
        &self,
        gateway: &Arc<Gateway>,
        stream: TcpStream,
        service: stack::Service,
        place: tokio::sync::OwnedSemaphorePermit,
    ) {
        let limits = ConnectionLimits::from(&**gateway.settings.load());
        let (drain, cut) = (self.drain.clone(), self.cut.clone());
        let connections = gateway.metrics.connections.clone();
        self.tracker.spawn(async move {
            let _place = place;
            connections.inc();
            tokio::select! {
                () = connection::serve(stream, service, limits, drain) => {}
                () = cut.cancelled() => {}
            }
            connections.dec();
        });
    }

    async fn finish(self, patience: Duration) {
        self.drain.cancel();
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            tracing::warn!(connections = self.tracker.len(), "calls are cut at the end of the drain");
            self.cut.cancel();
            self.tracker.wait().await;
        }
    }
}
