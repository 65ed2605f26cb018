//! The command line: global flags, and one command each.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::home::Home;

/// Serves language models and pays, out of every call, the people whose work they descend from.
#[derive(Debug, Parser)]
#[command(name = "dividend", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Folder of keys, journal, ledger, chain state and logs.
    #[arg(long, global = true, value_name = "DIR", default_value = ".dividend")]
    home: PathBuf,
    /// Settings file; `settings.toml` of the home by default.
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start Redis, a local chain, `serve` and `settle`, and keep them running.
    Up(crate::up::Args),
    /// Stop what `up` started in this home.
    Down(crate::down::Args),
    /// Say what runs in this home.
    Status(crate::status::Args),
    /// Serve models: gateway, meter and engines of one node.
    Serve(crate::serve::Args),
    /// Make, list, credit and revoke API keys.
    Keys(crate::keys::Args),
    /// Show and change what a key may do.
    Limits(crate::limits::Args),
    /// Register, show and fork models.
    Model(crate::model::Args),
    /// Create and show tracks, and choose their champions.
    Track(crate::track::Args),
    /// Post sealed windows, redeem vouchers, and host the dashboard.
    Settle(crate::settle::Args),
    /// Have contributors paid what the pool credits them.
    Claim(crate::claim::Args),
    /// Show what an address has earned.
    Earnings(crate::earnings::Args),
    /// Seal the settlement window.
    Window(crate::window::Args),
    /// Recompute all windows from the journal.
    Audit(crate::audit::Args),
    /// Export the journal.
    Journal(crate::journal::Args),
    /// Measure what this machine gives.
    Bench(crate::bench::Args),
    /// Deploy the contracts on a chain of one's own.
    Deploy(crate::deploy::Args),
    /// Add dollars behind prepaid calls.
    Escrow(crate::escrow::Args),
    /// Give an account of a local chain gas and test dollars.
    Faucet(crate::faucet::Args),
    /// Pay by a channel of one's own instead of by key.
    Pay(crate::pay::Args),
    /// Become another program that ends when its parent does.
    #[command(hide = true)]
    Child(crate::child::Args),
}

/// Reads the command line.
///
/// # Errors
/// What clap has to say, help and version included.
pub(crate) fn parse() -> anyhow::Result<Cli> {
    Ok(Cli::try_parse()?)
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up(args) => args.run(&self.global),
            Command::Down(args) => args.run(&self.global),
            Command::Status(args) => args.run(&self.global),
            Command::Serve(args) => args.run(&self.global),
            Command::Keys(args) => args.run(&self.global),
            Command::Limits(args) => args.run(&self.global),
            Command::Model(args) => args.run(&self.global),
            Command::Track(args) => args.run(&self.global),
            Command::Settle(args) => args.run(&self.global),
            Command::Claim(args) => args.run(&self.global),
            Command::Earnings(args) => args.run(&self.global),
            Command::Window(args) => args.run(&self.global),
            Command::Audit(args) => args.run(&self.global),
            Command::Journal(args) => args.run(&self.global),
            Command::Bench(args) => args.run(&self.global),
            Command::Deploy(args) => args.run(&self.global),
            Command::Escrow(args) => args.run(&self.global),
            Command::Faucet(args) => args.run(&self.global),
            Command::Pay(args) => args.run(&self.global),
            Command::Child(args) => args.run(),
        }
    }
}

impl Global {
    /// The home, which need not exist yet.
    pub(crate) fn home(&self) -> anyhow::Result<Home> {
        Home::new(&self.home)
    }

    /// The settings file named on the command line, if one is.
    pub(crate) fn settings_file(&self) -> Option<&Path> {
        self.settings.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
