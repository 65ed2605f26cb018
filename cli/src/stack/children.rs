//! The four children of a stack: how each is run, in which order they start and stop.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dividend_chain::Deployment;
use dividend_config::Settings;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::ready::{Probe, until_ready};
use super::roster::Roster;
use super::supervise::{Prepare, Spec, Supervised};
use super::{Endpoints, Ports, Programs, anvil, chain_clock, redis};
use crate::child::Death;
use crate::home::Home;
use crate::output::say;

const START_WITHIN: Duration = Duration::from_secs(30);
/// `serve` reads the whole chain and loads every model before it is ready.
const SERVE_WITHIN: Duration = Duration::from_secs(300);
const STOP_WITHIN: Duration = Duration::from_secs(15);
const KEEP_STATE_EVERY: Duration = Duration::from_secs(1);

/// What a stack is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its home.
    pub(crate) home: Home,
    /// The settings file given to `serve` and `settle`, if not the home's.
    pub(crate) settings: Option<PathBuf>,
    /// Its ports.
    pub(crate) ports: Ports,
    /// Its programs.
    pub(crate) programs: Programs,
    /// Time that `serve` has for calls in flight.
    pub(crate) drain: Duration,
}

/// The running children of a stack, in the order in which they were started.
pub(crate) struct Stack {
    plan: Plan,
    roster: Roster,
    children: Vec<Supervised>,
    keepers: Vec<JoinHandle<()>>,
}

impl Stack {
    /// A stack of which nothing runs yet.
    pub(crate) fn new(plan: Plan) -> Self {
        let roster = Roster::new(&plan.home);
        Self { plan, roster, children: Vec::new(), keepers: Vec::new() }
    }

    /// Its home.
    pub(crate) fn home(&self) -> &Home {
        &self.plan.home
    }

    /// The settings as its children have them: the ports of the stack go before those of the file.
    pub(crate) fn settings(&self, file: Settings) -> Settings {
        let mut settings = file;
        settings.chain.rpc_urls = vec![Endpoints::http(self.plan.ports.rpc)];
        settings.redis.url = Some(Endpoints::redis(self.plan.ports.redis));
        settings
    }

    /// Where its parts answer, with its contracts.
    pub(crate) fn endpoints(&self, deployment: &Deployment) -> Endpoints {
        let contracts = deployment.contracts.named().into_iter().chain([("TestDollar", deployment.token)]);
        let contracts = contracts.map(|(name, address)| (name.to_owned(), address.to_string())).collect();
        Endpoints::new(&self.plan.home, self.plan.ports, contracts)
    }

    /// Starts Redis and the chain and waits until both answer.
    pub(crate) async fn start_stores(&mut self) -> anyhow::Result<()> {
        let ports = self.plan.ports;
        let redis = self.start(self.redis());
        let chain = self.start(self.anvil()?);
        self.ready(redis, &Probe::Redis(ports.redis), START_WITHIN).await?;
        self.ready(chain, &Probe::Rpc(ports.rpc), START_WITHIN).await?;
        let clock = chain_clock::keep(self.children[chain].state.clone(), ports);
        self.keepers.push(tokio::spawn(clock));
        self.keepers.push(tokio::spawn(keep_chain_state(self.plan.home.path("anvil"))));
        Ok(())
    }

    /// Starts `serve` and waits until it is ready for calls.
    pub(crate) async fn start_serve(&mut self) -> anyhow::Result<()> {
        let probe = Probe::Http(format!("{}/readyz", Endpoints::http(self.plan.ports.api)));
        let serve = self.start(self.serve());
        self.ready(serve, &probe, SERVE_WITHIN).await
    }

    /// Starts `settle` and waits until its dashboard answers.
    pub(crate) async fn start_settle(&mut self) -> anyhow::Result<()> {
        let probe = Probe::Http(format!("{}/healthz", Endpoints::http(self.plan.ports.dashboard)));
        let settle = self.start(self.settle());
        self.ready(settle, &probe, SERVE_WITHIN).await
    }

    /// Stops the children: first `serve`, which drains, then `settle`, then what both stand on. `hurry` ends the
    /// waiting: from then on children are killed.
    pub(crate) async fn stop(mut self, hurry: impl Future<Output = ()>) {
        for keeper in &self.keepers {
            keeper.abort();
        }
        let (mut hurry, mut hurried) = (std::pin::pin!(hurry), false);
        for name in ["serve", "settle", "anvil", "redis"] {
            let Some(child) = self.children.iter_mut().find(|child| child.name == name) else { continue };
            if hurried {
                child.kill();
            }
            tokio::select! {
                () = child.stop() => continue,
                () = &mut hurry, if !hurried => hurried = true,
            }
            child.kill();
            child.stop().await;
        }
    }

    fn start(&mut self, spec: Spec) -> usize {
        say(format!("starting {}", spec.name));
        self.children.push(Supervised::start(spec, self.roster.clone()));
        self.children.len() - 1
    }

    async fn ready(&mut self, child: usize, probe: &Probe, limit: Duration) -> anyhow::Result<()> {
        until_ready(&mut self.children[child], probe, limit).await
    }

    /// Redis saves on SIGTERM what the last second's fsync has not.
    fn redis(&self) -> Spec {
        let (folder, check) = (self.plan.home.path("redis"), self.plan.programs.redis_check.clone());
        let args = redis::args(self.plan.ports.redis, &folder);
        let mend: Prepare = Arc::new(move || redis::mend(&check, &folder));
        Spec {
            program: self.plan.programs.redis.clone(),
            args,
            prepare: Some(mend),
            ..self.child("redis", Death::Term)
        }
    }

    /// Anvil dumps its state on SIGTERM.
    fn anvil(&self) -> anyhow::Result<Spec> {
        let folder = self.plan.home.path("anvil");
        let args = anvil::args(self.plan.ports.rpc, &folder, chain_clock::genesis_s(&folder)?);
        let mend: Prepare = Arc::new(move || anvil::mend(&folder));
        let program = self.plan.programs.anvil.clone();
        Ok(Spec { program, args, prepare: Some(mend), ..self.child("anvil", Death::Term) })
    }

    /// `serve` and `settle` lose nothing to SIGKILL, and without their supervisor they have nothing to stand on.
    fn serve(&self) -> Spec {
        let ports = self.plan.ports;
        let mut args = self.command("serve");
        args.extend(["--api".into(), Ports::address(ports.api).to_string().into()]);
        args.extend(["--admin".into(), Ports::address(ports.admin).to_string().into()]);
        args.extend(["--rpc".into(), Endpoints::http(ports.rpc).into()]);
        args.extend(["--redis".into(), Endpoints::redis(ports.redis).into()]);
        let grace = self.plan.drain + STOP_WITHIN;
        Spec { args, grace, ..self.child("serve", Death::Kill) }
    }

    fn settle(&self) -> Spec {
        let ports = self.plan.ports;
        let mut args = self.command("settle");
        args.extend(["--dashboard".into(), Ports::address(ports.dashboard).to_string().into()]);
        args.extend(["--rpc".into(), Endpoints::http(ports.rpc).into()]);
        Spec { args, ..self.child("settle", Death::Kill) }
    }

    /// A command of this program for the same home and settings.
    fn command(&self, name: &str) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![name.into(), "--home".into(), self.plan.home.root().into()];
        if let Some(settings) = &self.plan.settings {
            args.extend(["--settings".into(), settings.into()]);
        }
        args
    }

    fn child(&self, name: &'static str, death: Death) -> Spec {
        Spec {
            name,
            dividend: self.plan.programs.dividend.clone(),
            program: self.plan.programs.dividend.clone(),
            args: Vec::new(),
            folder: self.plan.home.path(name),
            log: self.plan.home.log(name),
            death,
            grace: STOP_WITHIN,
            prepare: None,
        }
    }
}

async fn keep_chain_state(folder: PathBuf) {
    let mut again = interval(KEEP_STATE_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        let folder = folder.clone();
        match tokio::task::spawn_blocking(move || anvil::keep(&folder)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(Err(error)) => say(format!("the chain's state cannot be kept: {error}")),
            Err(error) => say(format!("the chain's state cannot be kept: {error}")),
        }
    }
}
