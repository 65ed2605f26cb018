//! The follower keeps what a rebuild from genesis would find, through reorganisations, restarts and rollbacks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dividend_chain::bindings::ILineageRegistry;
use dividend_chain::testing::Deployed;
use dividend_chain::{Error, Follower, Head, Intent, Log, Projection, Result, Status};
use dividend_config::{Chain, Finality};

/// Remembers the heights of the logs it was shown and not told to forget.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u64>>>);

impl Seen {
    fn heights(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

impl Projection for Seen {
    fn apply(&mut self, block: Head, logs: &[Log]) -> Result<()> {
        self.0.lock().unwrap().extend(logs.iter().map(|_| block.number));
        Ok(())
    }

    fn revert(&mut self, ancestor: u64) -> Result<()> {
        self.0.lock().unwrap().retain(|height| *height <= ancestor);
        Ok(())
    }

    fn observed(&mut self, _: Head, _: u64) -> Result<()> {
        Ok(())
    }
}

/// Emits one log of the registry.
async fn commit(deployed: &Deployed, id: &str) -> u64 {
    let commitment = dividend_chain::keccak256(id);
    let call = ILineageRegistry::commitCall { commitment };
    let intent = Intent::call(id, deployed.deployment.contracts.lineage_registry, &call);
    deployed.sender.send(intent).await.unwrap().block_number
}

/// What a reorganisation undid, as the sender of a running system does.
async fn send_again(deployed: &Deployed, ids: &[String]) {
    deployed.sender.tick().await.unwrap();
    for id in ids {
        deployed.sender.mined(id).await.unwrap();
    }
}

async fn assert_equals_rebuild(deployed: &Deployed, live: &Follower, settings: &Chain) {
    let mut rebuilt = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, settings).unwrap();
    let rebuilt = rebuilt.poll().await.unwrap();
    let live = live.position().unwrap().unwrap();
    assert_eq!((live.head, live.state_hash), (rebuilt.head, rebuilt.state_hash));
}

#[tokio::test]
async fn reorganisations_leave_what_a_rebuild_finds() {
    let deployed = Deployed::start().await.unwrap();
    let settings = deployed.anvil.settings();
    let seen = Seen::default();
    let mut live = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &settings).unwrap();
    live.attach(seen.clone());
    let kept = commit(&deployed, "kept").await;
    let mut ids = Vec::new();
    for depth in 1..=20u64 {
        for step in 0..depth.min(3) {
            let id = format!("burst/{depth}/{step}");
            commit(&deployed, &id).await;
            ids.push(id);
        }
        deployed.anvil.mine(depth.saturating_sub(3)).await.unwrap();
        let before = live.poll().await.unwrap();
        deployed.anvil.rollback(depth).await.unwrap();
        assert_eq!(seen.heights().last().copied(), Some(before.head.number - depth.saturating_sub(3)));
        match depth % 2 {
            0 => deployed.anvil.mine(depth + 1).await.unwrap(),
            _ => send_again(&deployed, &ids).await,
        }
        live.poll().await.unwrap();
        assert_equals_rebuild(&deployed, &live, &settings).await;
    }
    assert!(seen.heights().contains(&kept));
}

#[tokio::test]
async fn logs_replaced_by_anvil_reorg_are_forgotten() {
    let deployed = Deployed::start().await.unwrap();
    let settings = deployed.anvil.settings();
    let seen = Seen::default();
    let mut live = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &settings).unwrap();
    live.attach(seen.clone());
    let kept = commit(&deployed, "kept").await;
    commit(&deployed, "lost").await;
    live.poll().await.unwrap();
    assert_eq!(seen.heights().len(), 2);
    deployed.anvil.reorg(1).await.unwrap();
    live.poll().await.unwrap();
    assert_eq!(seen.heights(), [kept]);
    assert_equals_rebuild(&deployed, &live, &settings).await;
}

#[tokio::test]
async fn a_restart_continues_from_the_store_and_ranges_equal_single_blocks() {
    let deployed = Deployed::start().await.unwrap();
    let path = deployed.home.path().join("follower.redb");
    let ranges = Chain { finality: Finality::Depth(1), max_log_blocks: 7, ..deployed.anvil.settings() };
    for id in 0..12 {
        commit(&deployed, &format!("early/{id}")).await;
        deployed.anvil.mine(3).await.unwrap();
    }
    let open = |path: Option<&std::path::Path>, settings: &Chain| {
        Follower::open(deployed.anvil.rpc(), &deployed.deployment, path, settings).unwrap()
    };
    let mut live = open(Some(&path), &ranges);
    live.poll().await.unwrap();
    drop(live);
    commit(&deployed, "late").await;
    let seen = Seen::default();
    let mut live = open(Some(&path), &ranges);
    live.attach(seen.clone());
    live.poll().await.unwrap();
    assert_eq!(seen.heights().len(), 13);
    // At depth 64 nothing is final yet, so the rebuild reads block by block.
    assert_equals_rebuild(&deployed, &live, &deployed.anvil.settings()).await;
}

#[tokio::test]
async fn a_chain_rolled_back_below_finality_stops_the_follower() {
    let deployed = Deployed::start().await.unwrap();
    let settings = Chain { finality: Finality::Depth(2), ..deployed.anvil.settings() };
    deployed.anvil.mine(10).await.unwrap();
    let follower = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &settings).unwrap();
    let running = follower.spawn();
    let height = deployed.anvil.height().await.unwrap();
    running.reached(height, Duration::from_secs(20)).await.unwrap();
    deployed.anvil.rollback(5).await.unwrap();
    running.wake();
    let mut status = running.status();
    status.wait_for(|status| matches!(status, Status::Stopped { .. })).await.unwrap();
    let error = running.stop().await.unwrap_err();
    let final_height = height - 2;
    assert!(matches!(error, Error::RolledBack { number, .. } if number == final_height), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_reorganisation_deeper_than_allowed_stops_the_follower() {
    let deployed = Deployed::start().await.unwrap();
    let settings = deployed.anvil.settings();
    deployed.anvil.mine(10).await.unwrap();
    let follower = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &settings).unwrap();
    let mut follower = follower.with_max_reorg_depth(4);
    follower.poll().await.unwrap();
    deployed.anvil.rollback(4).await.unwrap();
    deployed.anvil.advance(5).await.unwrap();
    follower.poll().await.unwrap();
    deployed.anvil.mine(8).await.unwrap();
    follower.poll().await.unwrap();
    deployed.anvil.rollback(6).await.unwrap();
    deployed.anvil.advance(5).await.unwrap();
    assert!(matches!(follower.poll().await, Err(Error::ReorgTooDeep { max: 4, .. })));
}

#[tokio::test]
async fn an_unreachable_node_is_retried_and_the_hint_wakes() {
    let deployed = Deployed::start().await.unwrap();
    let slow = Chain { poll_ms: 600_000, ..deployed.anvil.settings() };
    let follower = Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &slow).unwrap();
    let running = follower.spawn();
    let height = commit(&deployed, "hinted").await;
    running.reached(height, Duration::from_secs(20)).await.unwrap();
    drop(deployed);
    running.wake();
    let mut status = running.status();
    status.wait_for(|status| matches!(status, Status::Retrying { .. })).await.unwrap();
    running.stop().await.unwrap();
}
