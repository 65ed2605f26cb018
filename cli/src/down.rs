//! `dividend down`: stops the stack of a home.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use tokio::time::timeout;

use crate::args::Global;
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::identity::{Handle, Identity, working_in};
use crate::output::{answer, say};
use crate::runtime;
use crate::stack::{Lock, Occupant};

/// Time a child without supervisor has to end after SIGTERM.
const ORPHAN_ENDS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds to wait for calls in flight and for the children to end; then they are killed.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

#[derive(Serialize)]
struct Outcome {
    stopped: bool,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        let stopped = runtime::on_this_thread(async {
            let supervised = stop_supervisor(&home, Duration::from_secs(self.timeout)).await?;
            let orphans = stop_orphans(&home).await?;
            Ok(supervised || orphans)
        })?;
        answer(global, &Outcome { stopped }, |outcome| {
            let what = if outcome.stopped { "stopped" } else { "nothing runs in" };
            format!("{what} {}", home.root().display())
        })
    }
}

/// Asks the supervisor to stop its stack, and waits. Answers whether there was one.
async fn stop_supervisor(home: &Home, limit: Duration) -> anyhow::Result<bool> {
    let Occupant::Supervisor(identity) = Lock::occupant(home)? else { return Ok(false) };
    let Some(supervisor) = identity.open() else { return Ok(false) };
    say(format!("stopping the stack of {} (pid {})", home.root().display(), identity.pid));
    if ends(&supervisor, Signal::TERM, limit).await {
        return Ok(true);
    }
    say(format!("it did not stop within {} s; killing it", limit.as_secs()));
    if ends(&supervisor, Signal::KILL, ORPHAN_ENDS_WITHIN).await {
        return Ok(true);
    }
    let message = format!("the supervisor {} does not end", identity.pid);
    Err(Failure::new(message, "see what holds it: ps -o pid,stat,wchan,cmd").into())
}

/// Ends what a supervisor recorded and did not stop, if those processes still are what it recorded.
async fn stop_orphans(home: &Home) -> anyhow::Result<bool> {
    let recorded: BTreeMap<String, u32> = home::read_json(&home.processes())?.unwrap_or_default();
    let mut found = false;
    for (name, pid) in recorded {
        let Some(orphan) = working_in(pid, home.root()).and_then(Identity::open) else { continue };
        found = true;
        say(format!("stopping {name} (pid {pid})"));
        if !ends(&orphan, Signal::TERM, ORPHAN_ENDS_WITHIN).await {
            ends(&orphan, Signal::KILL, ORPHAN_ENDS_WITHIN).await;
        }
    }
    home::remove(&home.processes())?;
    home::remove(&home.endpoints())?;
    Ok(found)
}

async fn ends(process: &Handle, signal: Signal, limit: Duration) -> bool {
    process.signal(signal);
    timeout(limit, process.ended()).await.is_ok()
}
