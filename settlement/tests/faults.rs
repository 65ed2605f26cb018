//! Kills, an unreachable chain, reorganisations: each effect still happens once.

#![expect(clippy::unwrap_used, reason = "a test cannot go on without its surroundings")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use alloy::primitives::B256;
use dividend_settlement::books::Books;
use dividend_settlement::figures::figures;
use dividend_settlement::reconcile::{Figures, Questions};
use dividend_settlement::settler::Report;
use dividend_settlement::{Error, Settler};

use support::books::{Flaky, KillAt, KillEverywhere, Mining};
use support::seals::Window;
use support::{DEPTH, Home, Payer, World};

const JOURNAL: B256 = B256::repeat_byte(0xbb);
const WAIT: Duration = Duration::from_secs(30);
/// Two windows and one redeem batch.
const TRANSACTIONS: u64 = 3;

struct Scene {
    world: World,
    alice: Payer,
    bob: Payer,
}

impl Scene {
    async fn set() -> Self {
        let world = World::start().await;
        world.top_up("escrow", 1_000_000).await;
        let alice = world.open_channel("alice", 5_000_000).await;
        let bob = world.open_channel("bob", 5_000_000).await;
        Self { world, alice, bob }
    }

    fn seal(&self, home: &Home) {
        let Self { world, alice, bob } = self;
        Window::default()
            .prepaid(world.base, 55_555_555_555)
            .channel(world, alice, world.child, 3_000_000_999, 4_000_000_000)
            .seal(world, home, JOURNAL, 0);
        Window::default()
            .prepaid(world.child, 44_444_444_444)
            .channel(world, bob, world.base, 2_000_000_001, 2_500_000_000)
            .seal(world, home, JOURNAL, 1);
    }

    /// What the chain holds in the end; the block is left out, for it differs from run to run.
    async fn figures(&self) -> Figures {
        let mut asked = Questions::default();
        asked.models.extend([self.world.base.id, self.world.child.id]);
        asked
            .lanes
            .extend([(self.alice.channel, self.world.child.id), (self.bob.channel, self.world.base.id)]);
        let at = self.world.height().await - DEPTH;
        let found = figures(&self.world.rpc(), &self.world.deployment, &asked, at).await.unwrap();
        Figures { block: 0, ..found }
    }
}

async fn settled<B: Books>(mut settler: Settler<B>) -> Report {
    let report = settler.run_once(WAIT).await.unwrap();
    assert!(report.is_settled(), "{report:?}");
    report
}

#[tokio::test]
async fn a_kill_at_any_point_repeats_nothing_and_loses_nothing() {
    let scene = Scene::set().await;
    let mut start = scene.world.snapshot().await;
    let before = scene.world.operator_nonce().await;
    let home = Home::new();
    scene.seal(&home);
    settled(home.settler(&scene.world).await).await;
    let expected = scene.figures().await;
    assert_eq!(scene.world.operator_nonce().await - before, TRANSACTIONS);

    for nth in 0.. {
        scene.world.go_back(start).await;
        start = scene.world.snapshot().await;
        let home = Home::new();
        scene.seal(&home);
        let kill = Arc::new(KillAt { nth, passed: AtomicU64::new(0) });
        let mut doomed = home.probed(&scene.world, kill).await;
        let stopped = match doomed.run_once(WAIT).await {
            Err(Error::Stopped(at)) => at,
            Ok(report) => {
                assert!(report.is_settled(), "{report:?}");
                assert!(nth >= 12, "two windows and a batch pass at least twelve points, not {nth}");
                break;
            }
            Err(other) => panic!("{other}"),
        };
        drop(doomed);
        settled(home.settler(&scene.world).await).await;
        assert_eq!(scene.figures().await, expected, "killed at {stopped}");
        assert_eq!(scene.world.operator_nonce().await - before, TRANSACTIONS, "killed at {stopped}");
    }
}

#[tokio::test]
async fn a_kill_at_every_point_in_one_life_repeats_nothing() {
    let scene = Scene::set().await;
    let before = scene.world.operator_nonce().await;
    let home = Home::new();
    scene.seal(&home);
    let kills = Arc::new(KillEverywhere::default());
    loop {
        let mut doomed = home.probed(&scene.world, kills.clone()).await;
        match doomed.run_once(WAIT).await {
            Err(Error::Stopped(_)) => (),
            Ok(report) => {
                assert!(report.is_settled(), "{report:?}");
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(kills.points() >= 12, "killed {} times", kills.points());
    assert_eq!(scene.world.operator_nonce().await - before, TRANSACTIONS);
    let found = scene.figures().await;
    assert_eq!(found.lanes.values().copied().collect::<Vec<_>>().iter().sum::<u128>(), 3_000 + 2_000);
    assert_eq!(found.prepaid[&scene.world.base.id].accrued_pico, 55_555_555_555);
    assert_eq!(found.prepaid[&scene.world.child.id].accrued_pico, 44_444_444_444);
}

#[tokio::test]
async fn an_unreachable_chain_is_a_problem_that_passes() {
    let scene = Scene::set().await;
    let before = scene.world.operator_nonce().await;
    for every in [3, 5, 9] {
        let home = Home::new();
        if every == 3 {
            scene.seal(&home);
        }
        let books = Mining { chain: home.on_chain(&scene.world).await, anvil: scene.world.anvil.clone() };
        let flaky = Flaky { books, every, asked: AtomicU64::new(0) };
        let operator = support::operator(&scene.world, support::eager());
        let mut settler = Settler::open(home.paths.clone(), flaky, operator, support::clock()).unwrap();
        // The very first request fails: signing goes on without the chain.
        let report = settler.turn(true).await.unwrap();
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.problems[0].retryable && report.stuck().is_none());
        if every == 3 {
            assert!(home.claims(0).exists() && home.claims(1).exists());
        }
        settled(settler).await;
    }
    assert_eq!(scene.world.operator_nonce().await - before, TRANSACTIONS);
    let found = scene.figures().await;
    assert_eq!(found.lanes.values().sum::<u128>(), 3_000 + 2_000);
}

#[tokio::test]
async fn transactions_that_a_reorganisation_removed_are_sent_again() {
    let scene = Scene::set().await;
    let home = Home::new();
    scene.seal(&home);
    let mut settler = home.settler(&scene.world).await;
    let before = scene.world.operator_nonce().await;
    settler.turn(true).await.unwrap();
    let mined = scene.world.operator_nonce().await - before;
    assert!(mined > 0, "something is mined and not final");
    // Each transaction has a block of its own.
    scene.world.anvil.rollback(mined).await.unwrap();
    assert_eq!(scene.world.operator_nonce().await, before);
    settled(settler).await;
    assert_eq!(scene.world.operator_nonce().await - before, TRANSACTIONS);
    let found = scene.figures().await;
    assert_eq!(found.lanes.values().sum::<u128>(), 3_000 + 2_000);
    assert_eq!(found.prepaid[&scene.world.base.id].accrued_pico, 55_555_555_555);
}

#[tokio::test]
async fn a_chain_restored_from_a_backup_is_settled_again() {
    let scene = Scene::set().await;
    let backup = scene.world.snapshot().await;
    let home = Home::new();
    scene.seal(&home);
    settled(home.settler(&scene.world).await).await;
    let expected = scene.figures().await;

    scene.world.go_back(backup).await;
    assert!(scene.figures().await.lanes.values().all(|paid| *paid == 0));
    // The operator's book of transactions belongs to the chain that is gone.
    std::fs::remove_dir_all(home.dir.path().join("sender")).unwrap();
    settled(home.settler(&scene.world).await).await;
    assert_eq!(scene.figures().await, expected);
}

#[tokio::test]
async fn a_ledger_has_one_owner_and_one_deployment() {
    let scene = Scene::set().await;
    let home = Home::new();
    let first = home.settler(&scene.world).await;
    let books = || async {
        let other = Home::new();
        Mining { chain: other.on_chain(&scene.world).await, anvil: scene.world.anvil.clone() }
    };
    let operator = support::operator(&scene.world, support::eager());
    let second = Settler::open(home.paths.clone(), books().await, operator.clone(), support::clock());
    assert!(matches!(second.err(), Some(Error::Locked { .. })));
    drop(first);
    let mut foreign = operator;
    foreign.deployment.chain_id += 1;
    let third = Settler::open(home.paths.clone(), books().await, foreign, support::clock());
    let problem = third.err().expect("another chain's ledger").to_string();
    assert!(
        problem.contains("belongs to chain 31337") && problem.contains("not to chain 31338"),
        "{problem}"
    );
}
