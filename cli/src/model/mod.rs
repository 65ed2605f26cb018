//! `dividend model`: registers a model with its lineage, shows it, makes a fork.

mod fork;
mod register;
mod show;

use crate::args::Global;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Register the model that a TOML file describes, and keep its artifact.
    Register(register::Args),
    /// Show a model's terms, and its lineage as a tree with shares.
    Show(show::Args),
    /// Write a GGUF that differs from its base by name and system prompt.
    Fork(fork::Args),
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self.command {
            Command::Register(args) => args.run(global),
            Command::Show(args) => args.run(global),
            Command::Fork(args) => args.run(global),
        }
    }
}
