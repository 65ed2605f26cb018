//! `dividend up --detach`: leaves the supervisor running in a session of its own.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{Endpoints, Tail, rotate};
use crate::failure::{Failure, OrFail};
use crate::home::Home;
use crate::output::say;

/// Starts `dividend ARGS` in the background and waits for the line by which it says that all is ready.
///
/// # Errors
/// A [`Failure`] with what it logged if it ends instead.
pub(crate) fn up(home: &Home, args: Vec<OsString>) -> anyhow::Result<Endpoints> {
    let log = home.log("up");
    rotate(&log)?;
    let said = Tail::at_end(&log);
    let stderr = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log)
        .or_fail(log.display(), "check permissions")?;
    let program = std::env::current_exe()?;
    say(format!("starting in the background; progress in {}", log.display()));
    let mut child = Command::new(&program)
        .args(["child", "--session", "--"])
        .arg(&program)
        .arg("--home")
        .arg(home.root())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .or_fail(program.display(), "check that it can be executed")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        let status = child.wait()?;
        let message = format!("the stack did not start ({status}){}", said.quote());
        return Err(Failure::new(message, format!("see {}", log.display())).into());
    }
    serde_json::from_str(&line)
        .or_fail(format!("dividend up answered {line:?}"), format!("see {}", log.display()))
}
