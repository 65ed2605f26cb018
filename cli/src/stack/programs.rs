//! Finds the programs of others that the stack runs.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where the stack's programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// This program.
    pub(crate) dividend: PathBuf,
    /// `redis-server`.
    pub(crate) redis: PathBuf,
    /// `redis-check-aof`, which mends a torn append-only file.
    pub(crate) redis_check: PathBuf,
    /// `anvil`, the local chain.
    pub(crate) anvil: PathBuf,
}

impl Programs {
    /// Looks in the project's npm folder for `anvil`, and in PATH for all.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let redis_remedy = "install it: apt-get install redis-server";
        Ok(Self {
            dividend: std::env::current_exe()?,
            redis: in_path("redis-server").ok_or_else(|| missing("redis-server", redis_remedy))?,
            redis_check: in_path("redis-check-aof")
                .ok_or_else(|| missing("redis-check-aof", redis_remedy))?,
            anvil: above_here(&npm_anvil()).or_else(|| in_path("anvil")).ok_or_else(|| {
                missing("anvil", "install it: npm ci --prefix contracts, or put Foundry's anvil in PATH")
            })?,
        })
    }
}

/// The path `relative` in the current folder, in the one of this program, or in any folder above either.
pub(crate) fn above_here(relative: &Path) -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|folder| folder.join(relative))
        .find(|path| path.exists())
}

fn npm_anvil() -> PathBuf {
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    format!("contracts/node_modules/@foundry-rs/anvil-linux-{machine}/bin/anvil").into()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn missing(program: &str, remedy: &str) -> anyhow::Error {
    Failure::new(format!("{program} was not found"), remedy).into()
}
