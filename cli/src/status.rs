//! `dividend status`: what runs in a home.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::Global;
use crate::home;
use crate::identity::working_in;
use crate::output::answer;
use crate::stack::{Endpoints, Lock, Occupant};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Status {
    home: String,
    /// Process id of `dividend up`.
    supervisor: Option<u32>,
    /// Name → process id; none for a child that is down.
    processes: BTreeMap<String, Option<u32>>,
    endpoints: Option<Endpoints>,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        let supervisor = match Lock::occupant(&home)? {
            Occupant::Supervisor(identity) => Some(identity.pid),
            Occupant::Nobody => None,
        };
        let recorded: BTreeMap<String, u32> = home::read_json(&home.processes())?.unwrap_or_default();
        let alive = |pid| working_in(pid, home.root()).map(|_| pid);
        let status = Status {
            home: home.root().display().to_string(),
            supervisor,
            processes: recorded.into_iter().map(|(name, pid)| (name, alive(pid))).collect(),
            endpoints: supervisor.and_then(|_| Endpoints::of(&home).ok()),
        };
        answer(global, &status, table)
    }
}

fn table(status: &Status) -> String {
    let Some(supervisor) = status.supervisor else { return format!("nothing runs in {}", status.home) };
    let mut text = format!("{:<10} {supervisor}\n", "up");
    for (name, pid) in &status.processes {
        let pid = pid.map_or_else(|| "down".to_owned(), |pid| pid.to_string());
        text = format!("{text}{name:<10} {pid}\n");
    }
    match &status.endpoints {
        Some(endpoints) => format!("{text}{}", endpoints.table()),
        None => format!("{text}starting"),
    }
}
