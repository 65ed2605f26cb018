//! `dividend journal`: the journal for other programs.

use std::io::BufWriter;
use std::path::Path;

use crate::args::Global;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print every record; the meter may be running.
    Export {
        /// Form of the records.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// Only the records of this window.
        #[arg(long, value_name = "N")]
        window: Option<u64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object per line.
    Jsonl,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Command::Export { format: Format::Jsonl, window } = self.command;
        let dir = global.home()?.path("serve");
        let mut out = BufWriter::new(std::io::stdout().lock());
        dividend_meter::export(&dir, window, &mut out)?.ok_or_else(|| missing(&dir))?;
        Ok(())
    }
}

/// There is no journal in `dir`.
pub(crate) fn missing(dir: &Path) -> Failure {
    Failure::new(format!("there is no journal in {}", dir.display()), "name the home of a node with --home")
}
