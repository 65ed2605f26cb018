//! `dividend model fork`.

use std::path::PathBuf;

use dividend_chain::B256;
use dividend_engine::fork::{ForkSpec, write_fork};
use serde::Serialize;

use crate::args::Global;
use crate::output::{answer, say};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file of the base.
    base: PathBuf,
    /// GGUF file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the fork.
    #[arg(long)]
    name: String,
    /// System message of conversations that bring none.
    #[arg(long, value_name = "TEXT")]
    system_prompt: String,
}

#[derive(Serialize)]
struct Forked {
    artifact: PathBuf,
    digest: B256,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        say(format!("writing {}", self.out.display()));
        let spec = ForkSpec { name: self.name, system_prompt: self.system_prompt };
        write_fork(&self.base, &self.out, &spec)?;
        let digest = dividend_registry::artifact::digest(&self.out)?;
        answer(global, &Forked { artifact: std::path::absolute(self.out)?, digest }, |forked| {
            format!("{}\ndigest {}", forked.artifact.display(), forked.digest)
        })
    }
}
