//! `dividend window`: the settlement window of the running meter.

use serde_json::json;

use crate::admin::Admin;
use crate::args::Global;
use crate::output::answer;
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Seal the open window now instead of at its end. A window without a call stays open.
    Seal,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Command::Seal = self.command;
        let admin = Admin::of(global)?;
        let sealed = runtime::on_this_thread(admin.post("/admin/windows/seal", &json!({})))?;
        answer(global, &sealed, |sealed| match sealed["window"].as_u64() {
            Some(window) => format!("sealed window {window}"),
            None => "no call was closed in the open window; it stays open".to_owned(),
        })
    }
}
