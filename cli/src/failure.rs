//! How a command ends badly: what was wrong, with the value, what would be right, and an exit code. No stack traces.

use std::fmt;
use std::process::ExitCode;

/// Exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of bad settings and bad usage (`EX_USAGE` of sysexits.h).
pub(crate) const USAGE: u8 = 64;

/// An error with its remedy.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    remedy: String,
    code: u8,
}

impl Failure {
    /// The command could not do what it was told.
    pub(crate) fn new(message: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { message: message.to_string(), remedy: remedy.to_string(), code: FAILED }
    }

    /// The command was told something that makes no sense.
    pub(crate) fn usage(message: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { code: USAGE, ..Self::new(message, remedy) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Gives foreign errors a remedy.
pub(crate) trait OrFail<T> {
    /// Ends with "`what`: the error" and the remedy.
    fn or_fail(self, what: impl fmt::Display, remedy: impl fmt::Display) -> anyhow::Result<T>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl fmt::Display, remedy: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| Failure::new(format!("{what}: {error}"), remedy).into())
    }
}

/// Prints the error of a command, if it had one, and turns its outcome into an exit code.
pub(crate) fn exit(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        return exit_as_clap(usage);
    }
    eprintln!("error: {}", causes(&error));
    if let Some(failure) = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()) {
        eprintln!("  remedy: {}", failure.remedy);
    }
    ExitCode::from(code(&error))
}

fn code(error: &anyhow::Error) -> u8 {
    let bad_settings =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<dividend_config::SettingsError>();
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    match failure {
        Some(failure) => failure.code,
        None if error.chain().any(bad_settings) => USAGE,
        None => FAILED,
    }
}

/// The error and what it comes from, in one line; a cause that its effect already quotes is not repeated.
fn causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            said if said.contains(&cause) => text,
            said => format!("{said}: {cause}"),
        }
    })
}

/// Help and version are answers; all else that clap says is bad usage.
fn exit_as_clap(error: &clap::Error) -> ExitCode {
    // Nothing is left to tell anybody if even this cannot be printed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn settings_and_usage_are_64_and_all_else_is_1() {
        let settings = dividend_config::Settings::parse("[x]").unwrap_err();
        assert_eq!(code(&anyhow::Error::from(settings).context("reading")), USAGE);
        assert_eq!(code(&Failure::usage("port 99999", "give a lower one").into()), USAGE);
        assert_eq!(code(&Failure::new("no answer", "start it").into()), FAILED);
        assert_eq!(code(&anyhow::anyhow!("anything")), FAILED);
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("disk full");
        let error = Err::<(), _>(inner).context("writing seal: disk full").context("sealing").unwrap_err();
        assert_eq!(causes(&error), "sealing: writing seal: disk full");
    }
}
