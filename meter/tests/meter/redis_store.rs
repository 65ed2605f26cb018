//! I3 against a real Redis that is killed, torn, wiped and stopped: what it holds equals the journal up to its fence.

use std::path::Path;
use std::time::Duration;

use crate::server::RedisServer;
use crate::support::*;
use crate::wiped::WipedStore;
use dividend_meter::aggregate::{AggregateStore, MemoryStore, RedisStore};
use dividend_meter::audit::AuditReport;
use dividend_meter::{CloseReason, Meter, MeterOptions, audit_with_store};
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest that a mended store may stay behind.
const PATIENCE: Duration = Duration::from_secs(20);

/// A meter that publishes until it is stopped.
struct Folding {
    meter: Meter,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Folding {
    fn start<S: AggregateStore + 'static>(meter: Meter, store: S) -> Self {
        let (stop, stopped) = oneshot::channel();
        let running = meter.clone();
        let task = tokio::spawn(async move {
            running
                .run(store, async {
                    let _ = stopped.await;
                })
                .await;
        });
        Self { meter, stop, task }
    }

    async fn caught_up(&self) {
        let folded = tokio::time::timeout(PATIENCE, self.meter.folded()).await;
        assert!(folded.is_ok(), "the store stays behind: {:?}", self.meter.health());
    }

    async fn stop(self) -> Meter {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        self.meter
    }
}

fn serve(meter: &Meter, calls: u8) {
    for index in 0..calls {
        let payer = if index % 2 == 0 { key(index) } else { channel(index) };
        let guard = meter.open_call(opening(payer, model(index % 3))).unwrap();
        guard.prefilled(10);
        guard.generated(u32::from(index) + 1);
        guard.close(CloseReason::Stop).unwrap();
    }
}

/// I3: every aggregate equals the journal up to its fence. Answers the report.
async fn assert_equal<S: AggregateStore>(dir: &Path, store: &mut S) -> AuditReport {
    let report = audit_with_store(dir, store).await.unwrap().unwrap();
    assert!(report.is_sound(), "{:#?}", report.aggregates);
    report
}

/// All windows are there, complete up to the journal's end.
async fn assert_complete<S: AggregateStore>(folding: &Folding, dir: &Path, store: &mut S) {
    folding.caught_up().await;
    let report = assert_equal(dir, store).await;
    let windows: Vec<u64> = report.aggregates.iter().map(|aggregate| aggregate.window).collect();
    assert_eq!(windows, (0..=report.open_window).collect::<Vec<_>>());
    let newest = report.aggregates.last().and_then(|aggregate| aggregate.fence);
    assert_eq!(newest, Some(folding.meter.health().journal_bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_equals_the_journal_through_kills_torn_tails_wipes_and_partitions() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = RedisServer::start(data.path());
    let mut reader = RedisStore::new(&server.url()).unwrap();
    let (meter, _) = open(dir.path());
    let folding = Folding::start(meter, RedisStore::new(&server.url()).unwrap());
    for round in 0..12u64 {
        serve(&folding.meter, 20);
        assert_complete(&folding, dir.path(), &mut reader).await;
        serve(&folding.meter, 7);
        match round % 4 {
            0 => {
                server.kill();
                serve(&folding.meter, 5);
                server.tear_tail(37 * round + 1);
                server.restart();
            }
            1 => server.wipe(),
            2 => {
                server.signal(Signal::STOP);
                serve(&folding.meter, 5);
                server.signal(Signal::CONT);
            }
            _ => {
                let meter = folding.meter.clone();
                let sealed = tokio::task::spawn_blocking(move || meter.seal_window());
                server.kill();
                server.restart();
                assert!(sealed.await.unwrap().unwrap().is_some());
            }
        }
        reader = RedisStore::new(&server.url()).unwrap();
        assert_equal(dir.path(), &mut reader).await;
        serve(&folding.meter, 3);
        assert_complete(&folding, dir.path(), &mut reader).await;
    }
    folding.stop().await;
    assert_equal(dir.path(), &mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wipe_between_any_two_commands_is_mended() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = RedisServer::start(data.path());
    let mut reader = RedisStore::new(&server.url()).unwrap();
    let (meter, _) = open(dir.path());
    let (store, wipe) = WipedStore::new(&server.url());
    let folding = Folding::start(meter, store);
    for commands in 0..14 {
        // Some windows are sealed and silent, so that nothing but a look finds them gone.
        if commands % 5 == 0 {
            serve(&folding.meter, 4);
            let meter = folding.meter.clone();
            tokio::task::spawn_blocking(move || meter.seal_window()).await.unwrap().unwrap();
        }
        // Once with calls that are published when it happens, and once among the looks of an idle store.
        for calls in [3, 0] {
            assert_complete(&folding, dir.path(), &mut reader).await;
            serve(&folding.meter, calls);
            wipe.after(commands).await;
            serve(&folding.meter, 2);
            assert_complete(&folding, dir.path(), &mut reader).await;
        }
    }
    folding.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_ahead_of_a_journal_that_lost_its_tail_is_brought_back() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = RedisServer::start(data.path());
    let mut reader = RedisStore::new(&server.url()).unwrap();
    let (meter, _) = open(dir.path());
    serve(&meter, 4);
    let lost = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), lost.path());
    let folding = Folding::start(meter, RedisStore::new(&server.url()).unwrap());
    // Payers that the older copy of the journal does not know.
    serve(&folding.meter, 40);
    assert_complete(&folding, dir.path(), &mut reader).await;
    drop(folding.stop().await);
    let (meter, _) = open(lost.path());
    serve(&meter, 1);
    let folding = Folding::start(meter, RedisStore::new(&server.url()).unwrap());
    assert_complete(&folding, lost.path(), &mut reader).await;
    folding.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_never_reaches_a_call() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = RedisServer::start(data.path());
    server.kill();
    let (meter, _) = open(dir.path());
    let folding = Folding::start(meter, RedisStore::new(&server.url()).unwrap());
    serve(&folding.meter, 20);
    assert_eq!(folding.meter.health().folded_at_ms, 0);
    assert!(folding.meter.health().fold_lag_bytes > 0);
    server.restart();
    let mut reader = RedisStore::new(&server.url()).unwrap();
    assert_complete(&folding, dir.path(), &mut reader).await;
    let health = folding.meter.health();
    assert_eq!((health.fold_lag_bytes, health.fold_error), (0, None));
    folding.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_one_write_carries_arrive_whole() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = RedisServer::start(data.path());
    let mut reader = RedisStore::new(&server.url()).unwrap();
    let (meter, _) = Meter::open(dir.path(), MeterOptions::default(), operator(), clock()).unwrap();
    for lane in 0..2_500u16 {
        let payer = dividend_meter::Payer::Key(std::array::from_fn(|index| lane.to_le_bytes()[index % 2]));
        meter.open_call(opening(payer, model(1))).unwrap().close(CloseReason::Stop).unwrap();
    }
    let folding = Folding::start(meter, RedisStore::new(&server.url()).unwrap());
    assert_complete(&folding, dir.path(), &mut reader).await;
    let key = reader.windows().await.unwrap()[0];
    assert_eq!(reader.read(key).await.unwrap().unwrap().rows.len(), 2_500);
    folding.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_windows_leave_the_store() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = RedisServer::start(data.path());
    let options = MeterOptions { keep_windows: 2, ..options() };
    let (meter, _) = Meter::open(dir.path(), options, operator(), clock()).unwrap();
    let folding = Folding::start(meter, RedisStore::new(&server.url()).unwrap());
    for _ in 0..6 {
        serve(&folding.meter, 3);
        folding.caught_up().await;
        let meter = folding.meter.clone();
        tokio::task::spawn_blocking(move || meter.seal_window()).await.unwrap().unwrap();
    }
    serve(&folding.meter, 3);
    folding.caught_up().await;
    let mut reader = RedisStore::new(&server.url()).unwrap();
    let windows: Vec<u64> = reader.windows().await.unwrap().iter().map(|key| key.window).collect();
    assert_eq!(windows, [4, 5, 6]);
    // Three windows, their set, and the set of journals: one hash tag for all but the last.
    let keys = server.keys();
    assert_eq!(keys.len(), 5, "{keys:?}");
    let tag = format!("{{{}}}", folding.meter.journal_id());
    assert_eq!(keys.iter().filter(|key| key.contains(&tag)).count(), 4);
    folding.stop().await;
}

#[tokio::test]
async fn memory_equals_the_journal_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        // A process that starts has nothing in memory.
        let mut store = MemoryStore::default();
        let (meter, _) = open(dir.path());
        let folding = Folding::start(meter, store.clone());
        serve(&folding.meter, 12);
        folding.meter.seal_window().unwrap();
        serve(&folding.meter, 3);
        assert_complete(&folding, dir.path(), &mut store).await;
        drop(folding.stop().await);
    }
}
