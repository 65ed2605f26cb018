//! Results on standard output, progress on standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::args::Global;

/// Prints a result: as JSON in one line if asked, otherwise as `text` has it.
pub(crate) fn answer<T: Serialize>(
    global: &Global,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let line = if global.json { serde_json::to_string(value)? } else { text(value).trim_end().to_owned() };
    print_line(&line)
}

/// Prints a line on standard output. A reader that has seen enough, such as `head`, is no failure.
pub(crate) fn print_line(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Says on standard error what is being done.
pub(crate) fn say(what: impl std::fmt::Display) {
    let mut err = std::io::stderr().lock();
    let line = if err.is_terminal() { format!("\u{1b}[2m·\u{1b}[0m {what}") } else { format!("· {what}") };
    // Progress that nobody can read any more must not stop the work.
    let _ = writeln!(err, "{line}");
}
