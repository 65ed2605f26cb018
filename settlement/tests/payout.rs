//! From seals to the contributors' balances; and a running settler that is asked through its socket.

#![expect(clippy::unwrap_used, reason = "a test cannot go on without its surroundings")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use dividend_chain::Follower;
use dividend_chain::bindings::IDollar;
use dividend_registry::Snapshot;
use dividend_settlement::contributors::{Whom, claimable, pay};
use dividend_settlement::figures::figures;
use dividend_settlement::reconcile::{questions, reconcile};
use dividend_settlement::{LaneTotals, control, earnings};
use tokio::sync::oneshot;

use support::seals::Window;
use support::{DEPTH, Home, World, settings};

const JOURNAL: B256 = B256::repeat_byte(0xcc);
const WAIT: Duration = Duration::from_secs(30);

impl World {
    async fn followed(&self) -> Arc<Snapshot> {
        let mut follower =
            Follower::open(self.rpc(), &self.deployment, None, &settings(&self.anvil)).unwrap();
        let snapshots = dividend_registry::follow(&mut follower, &self.deployment);
        follower.poll().await.unwrap();
        snapshots.borrow().clone()
    }

    async fn dollars(&self, account: Address) -> u128 {
        let balance =
            self.rpc().call(self.deployment.token, &IDollar::balanceOfCall { account }).await.unwrap();
        balance.to()
    }
}

#[tokio::test]
async fn contributors_are_paid_exactly_what_the_calls_earned_them() {
    let world = World::start().await;
    world.top_up("escrow", 10_000_000).await;
    let alice = world.open_channel("alice", 5_000_000).await;
    let home = Home::new();
    let window = Window::default()
        .prepaid(world.base, 1_234_567_890)
        .prepaid(world.child, 999_999_999)
        .channel(&world, &alice, world.child, 3_000_000_999, 4_000_000_000);
    let mut totals = LaneTotals::default();
    window.count(&mut totals);
    window.seal(&world, &home, JOURNAL, 0);

    let before = world.followed().await;
    let accrued: Vec<u128> =
        world.payees.iter().map(|payee| earnings(*payee, &before, &totals).amounts.accrued_units).collect();
    assert!(accrued.iter().all(|units| *units > 0), "{accrued:?}");
    let report = home.settler(&world).await.run_once(WAIT).await.unwrap();
    assert!(report.is_settled(), "{report:?}");
    world.anvil.mine(DEPTH).await.unwrap();

    // One payee by address, the others by model: both ways pay the payee, and the payer of the gas gets nothing.
    let owner_before = world.dollars(world.owner.address()).await;
    let snapshot = world.followed().await;
    let by_address = claimable(&Whom::Payee(world.payees[0]), &snapshot);
    assert_eq!(by_address.len(), 2);
    let paid = pay(&world.owner, &world.deployment, &by_address, snapshot.block().number).await.unwrap();
    assert_eq!(paid.total_units(), world.dollars(world.payees[0]).await);
    let snapshot = world.followed().await;
    for model in [world.base, world.child] {
        let slots = claimable(&Whom::Model(model.id.into()), &snapshot);
        assert!(slots.iter().all(|slot| slot.payee != world.payees[0]), "{slots:?}");
        pay(&world.owner, &world.deployment, &slots, snapshot.block().number).await.unwrap();
    }
    world.anvil.mine(DEPTH).await.unwrap();
    let snapshot = world.followed().await;
    for (payee, accrued) in world.payees.iter().zip(&accrued) {
        let earned = earnings(*payee, &snapshot, &totals).amounts;
        let (credited, claimed) = (earned.credited_units, earned.claimed_units);
        assert_eq!((earned.accrued_units, credited, claimed), (*accrued, *accrued, *accrued));
        assert_eq!(world.dollars(*payee).await, *accrued);
        assert!(claimable(&Whom::Payee(*payee), &snapshot).is_empty());
    }
    assert_eq!(world.dollars(world.owner.address()).await, owner_before);

    let asked = questions(&snapshot, &totals);
    assert_eq!((asked.models.len(), asked.lanes.len(), asked.slots.len()), (2, 1, 5));
    let found = figures(&world.rpc(), &world.deployment, &asked, snapshot.block().number).await.unwrap();
    let books = reconcile(&asked, &found, &totals);
    assert!(books.is_complete(), "{books:#?}");
    assert_eq!(books.sums.claimed_units, accrued.iter().sum::<u128>());
    assert!(books.sums.revenue_units - books.sums.claimed_units < 5, "only dust stays in the pool");
}

#[tokio::test]
async fn a_claim_sent_twice_pays_once() {
    let world = World::start().await;
    world.top_up("escrow", 10_000_000).await;
    let home = Home::new();
    Window::default().prepaid(world.base, 1_000_000_000).seal(&world, &home, JOURNAL, 0);
    home.settler(&world).await.run_once(WAIT).await.unwrap();
    let snapshot = world.followed().await;
    let slots = claimable(&Whom::Model(world.base.id.into()), &snapshot);
    let first = pay(&world.owner, &world.deployment, &slots, snapshot.block().number).await.unwrap();
    assert_eq!(first.total_units(), 120);
    // The same intent gives the first result; a later one finds nothing left to pay.
    let same = pay(&world.owner, &world.deployment, &slots, snapshot.block().number).await.unwrap();
    assert_eq!(same.transactions, first.transactions);
    let later = pay(&world.owner, &world.deployment, &slots, snapshot.block().number + 1).await.unwrap();
    assert_eq!((later.total_units(), later.slots.len()), (0, 2));
    assert_eq!(world.dollars(world.payees[0]).await + world.dollars(world.payees[1]).await, 120);
}

#[tokio::test]
async fn a_running_settler_settles_when_asked_and_ends_when_told() {
    let world = World::start().await;
    world.top_up("escrow", 10_000_000).await;
    let home = Home::new();
    assert_eq!(control::ask(&home.paths.socket, WAIT).await.unwrap(), None, "nobody listens yet");
    let mut settler = home.settler(&world).await;
    let mut status = settler.status();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let told = async { drop(stopped.await) };
        settler.run(told).await
    });
    status.changed().await.unwrap();
    Window::default().prepaid(world.base, 1_000_000_000).seal(&world, &home, JOURNAL, 0);
    let report = control::ask(&home.paths.socket, WAIT).await.unwrap().expect("the settler listens");
    assert!(report.is_settled() && report.windows_confirmed == 1, "{report:?}");
    let again = control::ask(&home.paths.socket, WAIT).await.unwrap().expect("the settler listens");
    assert_eq!(again.windows_confirmed, 1);

    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert!(!home.paths.socket.exists());
    assert_eq!(control::ask(&home.paths.socket, WAIT).await.unwrap(), None);
}

#[tokio::test]
async fn nonsense_at_the_socket_is_answered_and_harms_nothing() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    let world = World::start().await;
    let home = Home::new();
    let mut settler = home.settler(&world).await;
    let mut status = settler.status();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let told = async { drop(stopped.await) };
        settler.run(told).await
    });
    status.changed().await.unwrap();
    let mut stream = tokio::net::UnixStream::connect(&home.paths.socket).await.unwrap();
    stream.write_all(b"{\"pay\":\"me\"}\n\xff\xfe\n").await.unwrap();
    let mut answer = String::new();
    BufReader::new(&mut stream).read_line(&mut answer).await.unwrap();
    assert!(answer.contains("error") && answer.contains("timeout_ms"), "{answer}");
    assert!(control::ask(&home.paths.socket, WAIT).await.unwrap().is_some());
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
