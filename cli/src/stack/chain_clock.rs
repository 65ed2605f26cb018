//! The local chain's clock.
//!
//! Anvil makes its genesis block anew at every start, and its hash follows from its time: so the time is fixed when the
//! home is made. Anvil then counts on from the last block's time, however long it was away, so the clock is set after
//! every start.

use std::path::Path;
use std::time::Duration;

use dividend_meter::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ready::{Probe, until_answer};
use super::supervise::State;
use super::{Endpoints, Ports};
use crate::home;
use crate::output::say;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The time of the genesis block, in unix seconds: now, if the chain in `folder` is yet to begin.
pub(super) fn genesis_s(folder: &Path) -> anyhow::Result<u64> {
    let kept = folder.join("genesis_s.json");
    match home::read_json(&kept)? {
        Some(genesis_s) => Ok(genesis_s),
        None => {
            let genesis_s = now_s();
            home::write_json(&kept, &genesis_s)?;
            Ok(genesis_s)
        }
    }
}

/// Sets the chain's clock whenever its process has started.
pub(super) async fn keep(mut process: watch::Receiver<State>, ports: Ports) {
    loop {
        let is_running = *process.borrow_and_update() == State::Running;
        if is_running && let Err(error) = set(ports).await {
            say(format!("anvil: its clock cannot be set: {error:#}"));
        }
        if process.changed().await.is_err() {
            return;
        }
    }
}

async fn set(ports: Ports) -> anyhow::Result<()> {
    let client = crate::http::client(ANSWER_WITHIN)?;
    until_answer(&client, &Probe::Rpc(ports.rpc)).await;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "evm_setTime", "params": [now_s()] });
    let answer: Value = client.post(Endpoints::http(ports.rpc)).json(&request).send().await?.json().await?;
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!("{error}")),
    }
}

fn now_s() -> u64 {
    SystemClock.now_ms() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genesis_of_a_home_has_one_time_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("genesis_s.json"), "7").unwrap();
        assert_eq!(genesis_s(folder.path()).unwrap(), 7);
        let fresh = tempfile::tempdir().unwrap();
        let first = genesis_s(fresh.path()).unwrap();
        assert_eq!(home::read_json(&fresh.path().join("genesis_s.json")).unwrap(), Some(first));
    }
}
