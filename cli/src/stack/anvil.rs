//! The stack's local chain. Anvil dumps its state every second by overwriting one file, so a kill can leave half of it.

use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use crate::failure::OrFail;
use crate::output::say;

/// Chain id of Anvil and Hardhat by custom.
pub(super) const CHAIN_ID: u64 = 31_337;

/// The arguments of `anvil`: a block a second, finality after two, transactions capped as EIP-7825 caps them.
pub(super) fn args(port: u16, folder: &Path, genesis_s: u64) -> Vec<OsString> {
    let (port, chain_id, genesis) = (port.to_string(), CHAIN_ID.to_string(), genesis_s.to_string());
    let fixed = [
        ["--host", "127.0.0.1"],
        ["--port", &port],
        ["--chain-id", &chain_id],
        ["--timestamp", &genesis],
        ["--block-time", "1"],
        ["--slots-in-an-epoch", "1"],
        ["--enable-tx-gas-limit", "--quiet"],
        ["--state-interval", "1"],
    ];
    let state: [OsString; 2] = ["--state".into(), state(folder).into()];
    fixed.into_iter().flatten().map(OsString::from).chain(state).collect()
}

/// Puts the last whole state back if the present one was cut off while it was written.
pub(super) fn mend(folder: &Path) -> anyhow::Result<()> {
    let (state, kept) = (state(folder), kept(folder));
    if !state.exists() || is_whole(&state) {
        return Ok(());
    }
    let remedy = "start with a new --home: the chain of this one is lost";
    if !is_whole(&kept) {
        return Err(anyhow::anyhow!("it is cut off, and no older state was kept"))
            .or_fail(format!("chain state {}", state.display()), remedy);
    }
    say("anvil: its state was cut off while being written; the last whole one is put back");
    std::fs::copy(&kept, &state).map(|_| ()).or_fail(format!("chain state {}", state.display()), remedy)
}

/// Keeps a copy of the state if it has changed and is whole.
pub(super) fn keep(folder: &Path) -> std::io::Result<()> {
    let (state, kept) = (state(folder), kept(folder));
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if modified(&state) <= modified(&kept) {
        return Ok(());
    }
    // Copied before it is checked: anvil may overwrite the original in between.
    let beside = folder.join("state.copy.json");
    std::fs::copy(&state, &beside)?;
    if is_whole(&beside) { std::fs::rename(&beside, &kept) } else { Ok(()) }
}

fn state(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

fn kept(folder: &Path) -> PathBuf {
    folder.join("state.kept.json")
}

fn is_whole(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    serde_json::from_reader::<_, IgnoredAny>(BufReader::with_capacity(1 << 16, file)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_state_is_replaced_by_the_last_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        mend(folder).unwrap();
        std::fs::write(state(folder), r#"{"block":1}"#).unwrap();
        keep(folder).unwrap();
        std::fs::write(state(folder), r#"{"block":"#).unwrap();
        keep(folder).unwrap();
        mend(folder).unwrap();
        assert_eq!(std::fs::read_to_string(state(folder)).unwrap(), r#"{"block":1}"#);
    }

    #[test]
    fn a_cut_off_state_without_a_copy_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(state(folder.path()), "{").unwrap();
        assert!(mend(folder.path()).unwrap_err().to_string().contains("state.json"));
    }
}
