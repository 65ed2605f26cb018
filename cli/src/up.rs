//! `dividend up`: the whole stack on this machine, supervised.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::Global;
use crate::home::Home;
use crate::output::{answer, say};
use crate::stack::{Endpoints, Lock, Plan, Ports, Programs, Stack, detach};
use crate::stop::StopSignals;
use crate::{bootstrap, home, runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// First of five ports: api, admin, dashboard, rpc, redis. 0 picks free ones, which stay with the home.
    #[arg(long, value_name = "BASE", default_value_t = 7410)]
    ports: u16,
    /// GGUF file of the base model; the one in `.cache/models` of this folder or one above by default.
    #[arg(long, value_name = "FILE", env = "DIVIDEND_MODEL")]
    model: Option<PathBuf>,
    /// Return when everything answers and leave it running.
    #[arg(long)]
    detach: bool,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        if self.detach {
            let endpoints = detach::up(&global.home()?.create()?, self.attached(global)?)?;
            return answer(global, &endpoints, Endpoints::table);
        }
        runtime::on_this_thread(self.supervise(global))
    }

    /// The arguments of the same command without `--detach`.
    fn attached(&self, global: &Global) -> anyhow::Result<Vec<std::ffi::OsString>> {
        let mut args = vec!["up".into(), "--json".into(), "--ports".into(), self.ports.to_string().into()];
        if let Some(model) = &self.model {
            args.extend(["--model".into(), std::path::absolute(model)?.into()]);
        }
        if let Some(settings) = global.settings_file() {
            args.extend(["--settings".into(), std::path::absolute(settings)?.into()]);
        }
        Ok(args)
    }

    async fn supervise(self, global: &Global) -> anyhow::Result<()> {
        let mut stop = StopSignals::listen()?;
        let home = global.home()?.create()?;
        let _lock = Lock::take(&home)?;
        home::remove(&home.endpoints())?;
        bootstrap::write_local_settings(&home)?;
        let mut stack = Stack::new(self.plan(global, &home)?);
        let booted = tokio::select! {
            booted = self.boot(&mut stack, global) => booted.map(|()| true),
            () = stop.received() => Ok(false),
        };
        if matches!(booted, Ok(true)) {
            stop.received().await;
        }
        say("stopping");
        stack.stop(stop.received()).await;
        home::remove(&home.endpoints())?;
        home::remove(&home.processes())?;
        booted.map(|_| ())
    }

    fn plan(&self, global: &Global, home: &Home) -> anyhow::Result<Plan> {
        let settings = settings::load(global, home)?;
        Ok(Plan {
            home: home.clone(),
            settings: global.settings_file().map(std::path::absolute).transpose()?,
            ports: Ports::choose(home, self.ports)?,
            programs: Programs::find()?,
            drain: Duration::from_millis(settings.gateway.drain_ms),
        })
    }

    /// Brings the stack up in order: stores, what must be on the chain, `serve`, a key to try it with, `settle`.
    async fn boot(&self, stack: &mut Stack, global: &Global) -> anyhow::Result<()> {
        let home = stack.home().clone();
        let settings = stack.settings(settings::load(global, &home)?);
        bootstrap::secrets(&home)?;
        stack.start_stores().await?;
        let deployment = bootstrap::chain(&home, &settings, self.model.as_deref()).await?;
        stack.start_serve().await?;
        let endpoints = stack.endpoints(&deployment);
        bootstrap::demo_key::provide(&home, endpoints.admin.clone()).await?;
        stack.start_settle().await?;
        home::write_json(&home.endpoints(), &endpoints)?;
        answer(global, &endpoints, Endpoints::table)
    }
}
