//! `dividend serve`: the gateway, the meter and the models of one node.

pub(crate) mod meter;
mod models;
mod prices;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dividend_chain::{Deployment, Follower, FollowerHandle, Key, Rpc, Status};
use dividend_config::{EngineBackend, Problem, Settings};
use dividend_gateway::{Backends, Clock, Gateway, Keys, Listeners, Parts};
use dividend_registry::Snapshot;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::args::Global;
use crate::failure::{Failure, OrFail};
use crate::home::Home;
use crate::settings::Overrides;
use crate::stop::StopSignals;
use crate::{artifacts, runtime, settings};

/// How often a chain that is away is asked again while starting.
const RETRY_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    overrides: Overrides,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?.create()?;
        let settings = self.overrides.clone().apply(settings::load(global, &home)?);
        if settings.engine.backend == EngineBackend::Candle {
            threads::provide(settings.engine.threads)?;
        }
        runtime::log(&settings.log)?;
        runtime::on_all_cores(self.serve(global, home, settings))
    }

    /// Builds the parts in the order in which they need each other, serves until told to stop, drains, and ends what was
    /// begun in the opposite order.
    async fn serve(self, global: &Global, home: Home, settings: Settings) -> anyhow::Result<()> {
        let mut stop = StopSignals::listen()?;
        let gateway_settings = dividend_gateway::Settings::from(&settings);
        let listeners = Listeners::bind(&gateway_settings).await?;
        let deployment = access::load(&home, &settings.chain)?;
        check_withdrawals(&settings, &deployment)?;
        prices::accept(&prices_file(&home), &settings.prices)?;
        let store = home.path("serve/follower.redb");
        let chain = tokio::select! {
            chain = follow(&store, &settings, &deployment) => chain?,
            () = stop.received() => return Ok(()),
        };
        let meter = meter::start(&home, &settings, &deployment).await?;
        let mut models = models::Models::new(artifacts::folder(&home, &settings.engine), &settings.engine);
        let backends = Arc::new(Backends::new());
        models.load(&chain.snapshots.borrow().clone(), &backends).await;
        models.check_any_loaded(&backends)?;
        let gateway = Gateway::new(Parts {
            settings: gateway_settings.clone(),
            clock: Clock::system(),
            meter: meter.writer.clone(),
            snapshots: chain.snapshots.clone(),
            backends: backends.clone(),
            keys: Arc::new(Keys::open(&home.path("serve/keys.redb"), gateway_settings.limits)?),
            operator: deployment.operator,
            asset: deployment.token,
            admin_token: admin_token(&home)?,
        })?;
        self.watch(global, &home, &gateway)?;
        let ended = CancellationToken::new();
        let keeper = tokio::spawn(models.keep(chain.snapshots.clone(), backends, ended.clone()));
        tracing::info!(api = %listeners.api(), admin = %listeners.admin(), "serving");
        let served = dividend_gateway::serve(gateway, listeners, until_ended(&mut stop, chain.lost())).await;
        ended.cancel();
        keeper.await?;
        meter.stop().await?;
        chain.follower.stop().await?;
        served.map_err(Into::into)
    }

    /// Has the settings file read again whenever it changes.
    fn watch(&self, global: &Global, home: &Home, gateway: &Arc<Gateway>) -> anyhow::Result<()> {
        let file = global.settings_file().map_or_else(|| home.settings(), Into::into);
        if !file.exists() {
            return Ok(());
        }
        let (overrides, prices) = (self.overrides.clone(), prices_file(home));
        dividend_gateway::watch_settings(gateway, file, move |path| {
            let settings = Settings::load(path).map_err(|error| error.to_string())?;
            prices::accept(&prices, &settings.prices).map_err(|error| format!("{error:#}"))?;
            Ok(dividend_gateway::Settings::from(&overrides.clone().apply(settings)))
        })?;
        Ok(())
    }
}

/// Where the prices in force are kept.
fn prices_file(home: &Home) -> PathBuf {
    home.path("serve/prices.json")
}

/// Refuses contracts that would let payers leave before what they used is redeemed.
fn check_withdrawals(settings: &Settings, deployment: &Deployment) -> anyhow::Result<()> {
    let checked = settings.check_withdrawal_delay(deployment.withdrawal_delay_s);
    checked.map_err(|problem| {
        let Problem { path, value, problem, remedy } = problem;
        Failure::new(format!("{path} = {value} of the deployed contracts {problem}"), remedy).into()
    })
}

/// The chain as a running service sees it.
pub(crate) struct Chain {
    /// The registry, as of the newest block.
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What keeps them coming.
    pub(crate) follower: FollowerHandle,
}

impl Chain {
    /// Waits until the chain turns out to be one that must not be followed; [`FollowerHandle::stop`] then says why.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut status = self.follower.status();
        async move {
            // Without a sender the follower has ended, which is no better.
            let _ = status.wait_for(|status| matches!(status, Status::Stopped { .. })).await;
        }
    }
}

/// Waits until the service is told to stop, or has lost its chain: without it no call can be answered for money, and a
/// restart by the supervisor tells the cause again until it is cured.
pub(crate) async fn until_ended(stop: &mut StopSignals, lost: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.received() => {}
        () = lost => {}
    }
}

/// Follows the chain, waiting for it as long as it is away, until the first snapshot is there. What was followed is kept
/// in the file `store`.
pub(crate) async fn follow(
    store: &Path,
    settings: &Settings,
    deployment: &Deployment,
) -> anyhow::Result<Chain> {
    let rpc = Rpc::connect(&settings.chain)?;
    verify_when_reached(&rpc, settings, deployment).await?;
    let mut follower = Follower::open(rpc, deployment, Some(store), &settings.chain)?;
    let snapshots = dividend_registry::follow(&mut follower, deployment);
    let follower = follower.spawn();
    let mut status = follower.status();
    let seen =
        status.wait_for(|status| matches!(status, Status::Following(_) | Status::Stopped { .. })).await;
    match seen.as_deref() {
        Ok(Status::Stopped { problem }) => {
            Err(Failure::new(problem, format!("see the follower's state in {}", store.display())).into())
        }
        Ok(_) => Ok(Chain { snapshots, follower }),
        Err(_) => Err(anyhow::anyhow!("the follower ended without a word")),
    }
}

/// Checks the contracts; a node that is away is asked again until it answers.
async fn verify_when_reached(rpc: &Rpc, settings: &Settings, deployment: &Deployment) -> anyhow::Result<()> {
    let mut again = tokio::time::interval(RETRY_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        let verified = async {
            access::check_chain_id(rpc, &settings.chain).await?;
            Ok::<_, anyhow::Error>(deployment.verify(rpc).await?)
        };
        match verified.await {
            Ok(()) => return Ok(()),
            Err(error) if is_away(&error) => tracing::warn!("waiting for the chain: {error:#}"),
            Err(error) => return Err(error),
        }
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<dividend_chain::Error>().is_some_and(dividend_chain::Error::is_retryable)
}

fn admin_token(home: &Home) -> anyhow::Result<String> {
    crate::bootstrap::secrets(home)?;
    let file = home.admin_token();
    let token = std::fs::read_to_string(&file)
        .or_fail(file.display(), "make it readable, or remove it for a new one")?;
    Ok(token.trim().to_owned())
}

/// The operator's key.
fn operator_key(home: &Home) -> anyhow::Result<Key> {
    Ok(Key::load(&home.operator_key())?)
}
