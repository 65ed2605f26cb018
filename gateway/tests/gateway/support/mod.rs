//! A whole gateway on free ports over backends without a model, and a client that sees every byte.

mod client;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dividend_chain::Address;
use dividend_gateway::keys::{KeyId, KeyRecord, Secret};
use dividend_gateway::{Backends, Clock, Gateway, InstantBackend, Keys, Listeners, Parts, Settings, serve};
use dividend_meter::{Meter, MeterOptions, SystemClock};
use dividend_registry::{ChannelView, EscrowView, Snapshot};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use client::{Reply, Wire, request, send};
pub use world::{
    DEPLOYMENT, MODEL, OLD_MODEL, OTHER_MODEL, TOKEN, TRACK, block, channel, key, models, operator_key,
    tracks,
};

/// What a test may want different.
pub struct Plan {
    pub backend: InstantBackend,
    pub credit_pico: u128,
    pub channels: Vec<ChannelView>,
    pub escrow: EscrowView,
    pub seen: Instant,
    pub clock: Clock,
    pub settings: fn(&mut Settings),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            backend: InstantBackend::new(4, 64),
            credit_pico: 1_000_000_000_000,
            channels: Vec::new(),
            escrow: EscrowView::default(),
            seen: Instant::now(),
            clock: Clock::system(),
            settings: |_| {},
        }
    }
}

/// A running gateway.
pub struct Stand {
    pub gateway: Arc<Gateway>,
    pub meter: Meter,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub key: Secret,
    pub key_id: KeyId,
    /// Kept so that the gateway's receiver stays open.
    _snapshots: watch::Sender<Arc<Snapshot>>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), dividend_gateway::GatewayError>>,
    pub dir: tempfile::TempDir,
}

pub fn settings() -> Settings {
    let mut file = dividend_config::Settings::default();
    file.gateway.listen.set_port(0);
    file.gateway.admin_listen.set_port(0);
    file.prices.default =
        dividend_config::Price { from_unix_s: 0, input_pico_per_token: 10, output_pico_per_token: 100 };
    Settings::from(&file)
}

pub fn meter(dir: &Path) -> Meter {
    let operator = dividend_meter::Operator { key: operator_key(), deployment: DEPLOYMENT };
    let options = MeterOptions { slots: 256, ..MeterOptions::default() };
    Meter::open(dir, options, operator, Arc::new(SystemClock)).expect("a new journal").0
}

impl Stand {
    pub async fn start(plan: Plan) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = settings();
        (plan.settings)(&mut settings);
        let meter = meter(&dir.path().join("journal"));
        let backends = Arc::new(Backends::new());
        backends.insert(MODEL, Arc::new(plan.backend.clone()));
        backends.insert(OLD_MODEL, Arc::new(plan.backend));
        let keys = Arc::new(Keys::open(&dir.path().join("keys.redb"), settings.limits).expect("a new store"));
        let (key, key_id) = keys.create(KeyRecord::new("test", 1, plan.credit_pico)).expect("a key");
        let snapshot = Snapshot::fixture(block(), plan.seen, models(), tracks(), plan.channels, plan.escrow);
        let (_snapshots, seen) = watch::channel(Arc::new(snapshot));
        let listeners = Listeners::bind(&settings).await.expect("free ports");
        let (api, admin) = (listeners.api(), listeners.admin());
        let gateway = Gateway::new(Parts {
            settings,
            clock: plan.clock,
            meter: meter.clone(),
            snapshots: seen,
            backends,
            keys,
            operator: operator_key().address(),
            asset: Address::repeat_byte(0xaa),
            admin_token: TOKEN.to_owned(),
        })
        .expect("parts that fit");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or(()) };
        let serving = tokio::spawn(serve(gateway.clone(), listeners, shutdown));
        Self { gateway, meter, api, admin, key, key_id, _snapshots, stop, serving, dir }
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key.reveal())
    }

    /// `POST` to the API with the key.
    pub async fn post(&self, path: &str, body: &str) -> Reply {
        send(self.api, "POST", path, &[("authorization", &self.bearer())], body).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.api, "GET", path, &[("authorization", &self.bearer())], "").await
    }

    pub async fn chat(&self, extra: &str) -> Reply {
        self.post("/v1/chat/completions", &chat_body(extra)).await
    }

    /// A request to the admin listener with its token.
    pub async fn operate(&self, method: &str, path: &str, body: &str) -> Reply {
        send(self.admin, method, path, &[("authorization", &format!("Bearer {TOKEN}"))], body).await
    }

    /// Waits until no call is in flight, with no clock involved: every yield lets the gateway run.
    pub async fn idle(&self) {
        while self.meter.health().in_flight > 0 || self.gateway.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Tells the gateway to stop.
    pub fn stop(self) -> (JoinHandle<Result<(), dividend_gateway::GatewayError>>, Meter, tempfile::TempDir) {
        self.stop.send(()).expect("it still serves");
        (self.serving, self.meter, self.dir)
    }

    /// Stops, and checks that nothing is left open.
    pub async fn finish(self) {
        let (serving, meter, _dir) = self.stop();
        serving.await.expect("no panic").expect("a clean end");
        assert_eq!(meter.health().in_flight, 0, "a call was left open");
        assert_eq!(meter.health().unclosed, 0, "a call was not closed");
    }
}

pub fn chat_body(extra: &str) -> String {
    format!(r#"{{"model":"{TRACK}","messages":[{{"role":"user","content":"12345678"}}]{extra}}}"#)
}
