//! Keeps one child running until told to stop it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::roster::Roster;
use super::{Tail, rotate};
use crate::child::Death;
use crate::failure::OrFail;
use crate::output::say;

/// What has to be done before every start.
pub(super) type Prepare = Arc<dyn Fn() -> anyhow::Result<()> + Send + Sync>;

/// How a child is run.
pub(super) struct Spec {
    /// Its name in `processes.json` and of its log.
    pub(super) name: &'static str,
    /// This program, which becomes the child's.
    pub(super) dividend: PathBuf,
    /// The child's program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// The folder it works in, by which it is recognised later.
    pub(super) folder: PathBuf,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// What it receives if this process dies.
    pub(super) death: Death,
    /// Time it has to end after SIGTERM.
    pub(super) grace: Duration,
    /// Runs before every start.
    pub(super) prepare: Option<Prepare>,
}

/// What a child is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It is about to start.
    Starting,
    /// It runs.
    Running,
    /// It ended, and is to be started again.
    Down(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    Stop,
    Kill,
}

/// A child that is kept running.
pub(super) struct Supervised {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is doing.
    pub(super) state: watch::Receiver<State>,
    /// What it has said since it was first started.
    pub(super) said: Tail,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts a child and keeps it running. Must be called on the thread that lives as long as the program: the kernel
    /// tells the child when that thread ends, not the process.
    pub(super) fn start(spec: Spec, roster: Roster) -> Self {
        let (reported, state) = watch::channel(State::Starting);
        let (orders, received) = watch::channel(Order::Run);
        let (name, said) = (spec.name, Tail::at_end(&spec.log));
        let task = tokio::spawn(keep_running(spec, roster, reported, received));
        Self { name, state, said, orders, task }
    }

    /// Stops the child and waits for its end.
    pub(super) async fn stop(&mut self) {
        self.orders.send_replace(Order::Stop);
        if let Err(error) = (&mut self.task).await {
            say(format!("{}: {error}", self.name));
        }
    }

    /// Has the child killed instead of waiting any longer.
    pub(super) fn kill(&self) {
        self.orders.send_replace(Order::Kill);
    }
}

async fn keep_running(
    spec: Spec,
    roster: Roster,
    state: watch::Sender<State>,
    mut orders: watch::Receiver<Order>,
) {
    let mut backoff = Backoff::new();
    loop {
        let started = Instant::now();
        let why = match start(&spec).await {
            Err(error) => format!("{error:#}"),
            Ok(mut child) => {
                if let Some(pid) = child.id() {
                    roster.record(spec.name, pid);
                }
                state.send_replace(State::Running);
                tokio::select! {
                    status = child.wait() => describe(status),
                    () = ordered(&mut orders, Order::Stop) => return end(&mut child, &spec, &mut orders).await,
                }
            }
        };
        let pause = backoff.after(started.elapsed());
        say(format!("{} {why}; starting it again in {} ms", spec.name, pause.as_millis()));
        state.send_replace(State::Down(why));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ordered(&mut orders, Order::Stop) => return,
        }
    }
}

/// Starts the child through `dividend child`, in a process group of its own: an interrupt from the terminal reaches the
/// supervisor alone, which then stops its children in order.
async fn start(spec: &Spec) -> anyhow::Result<Child> {
    if let Some(prepare) = spec.prepare.clone() {
        tokio::task::spawn_blocking(move || prepare()).await??;
    }
    let permissions = "check the folder's permissions";
    rotate(&spec.log).or_fail(format!("cannot set {} aside", spec.log.display()), permissions)?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&spec.log)
        .or_fail(format!("cannot write {}", spec.log.display()), permissions)?;
    let death = match spec.death {
        Death::Kill => "kill",
        Death::Term => "term",
    };
    Command::new(&spec.dividend)
        .args(["child", "--death", death, "--parent"])
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(&spec.program)
        .args(&spec.args)
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .process_group(0)
        .spawn()
        .or_fail(format!("cannot start {}", spec.program.display()), "check that it can be executed")
}

/// Ends the child: SIGTERM, and SIGKILL when its time is over or it is ordered.
async fn end(child: &mut Child, spec: &Spec, orders: &mut watch::Receiver<Order>) {
    // The child has not been waited for, so its id cannot have passed to another process.
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile; then there is nothing to signal.
        let _ = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        _ = child.wait() => return,
        () = tokio::time::sleep(spec.grace) => say(format!("{} did not end within {:?}; killing it", spec.name, spec.grace)),
        () = ordered(orders, Order::Kill) => {}
    }
    if let Err(error) = child.kill().await {
        say(format!("cannot kill {}: {error}", spec.name));
    }
}

async fn ordered(orders: &mut watch::Receiver<Order>, least: Order) {
    // Without a sender the supervisor is gone, and that is an order too.
    let _ = orders.wait_for(|order| *order >= least).await;
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("cannot be waited for ({error})"),
    }
}
