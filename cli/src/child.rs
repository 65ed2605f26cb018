//! `dividend child`: becomes another program that ends when its parent does.
//!
//! A supervisor that is killed with SIGKILL cannot stop anything any more, so every child asks the kernel to be
//! signalled when its parent's thread ends, and then replaces itself by the program; the request survives that. Doing it
//! in a program of its own, between fork and exec, needs no unsafe code in the parent.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid};

use crate::failure::{Failure, OrFail};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Process id of the supervisor.
    #[arg(long, value_name = "PID", required_unless_present = "session")]
    parent: Option<i32>,
    /// What to receive when the supervisor ends.
    #[arg(long, value_enum, default_value_t = Death::Kill)]
    death: Death,
    /// Begin a session of its own that outlives parent and terminal.
    #[arg(long, conflicts_with = "parent")]
    session: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// What a child receives when its supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Death {
    /// SIGKILL, for what recovers from it by design.
    Kill,
    /// SIGTERM, for what saves its state on the way out.
    Term,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Some((program, args)) = self.command.split_first() else {
            return Err(Failure::usage("no program was given", "name one after --").into());
        };
        match self.parent {
            Some(parent) => self.bind_to(parent)?,
            None => {
                setsid().or_fail("cannot begin a session", "run it as a child, not as a group's leader")?;
            }
        }
        let error = Command::new(program).args(args).exec();
        Err(error).or_fail(program.to_string_lossy(), "install the program or correct its path")
    }

    fn bind_to(&self, parent: i32) -> anyhow::Result<()> {
        let signal = match self.death {
            Death::Kill => Signal::KILL,
            Death::Term => Signal::TERM,
        };
        set_parent_process_death_signal(Some(signal))
            .or_fail("cannot bind to the supervisor", "use Linux")?;
        // The supervisor may have ended before the request was made: then nobody would ever be told.
        if getppid().map(Pid::as_raw_pid) != Some(parent) {
            return Err(Failure::new(format!("the supervisor {parent} is gone"), "start it again").into());
        }
        Ok(())
    }
}
