//! What metering costs per call, with a Redis of its own: `cargo run -p dividend-meter --example bench`. Prints one JSON
//! object; times are nanoseconds, each the median, least and most of several runs.

#[path = "../tests/meter/server.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which mistreat it more")]
mod server;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dividend_chain::{Address, B256, Key};
use dividend_meter::aggregate::{AggregateStore, MemoryStore, RedisStore};
use dividend_meter::{
    CallOpening, CloseReason, Deployment, Meter, MeterOptions, Operator, Payer, PriceVersion, SystemClock,
};
use dividend_registry::ModelId;
use server::RedisServer;

const RUNS: usize = 7;
const CALLS: u32 = 20_000;
const TOKENS: u32 = 1_000_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let open_close = runs(|| Ok(per(open_and_close(&meter()?.1, 100)?, CALLS)))?;
    let count = runs(count_tokens)?;
    let sign = runs(sign_receipts)?;
    let fold_memory = runs(|| runtime.block_on(fold(MemoryStore::default())))?;
    let data = tempfile::tempdir()?;
    let redis = RedisServer::start(data.path());
    let fold_redis = runs(|| runtime.block_on(fold(RedisStore::new(&redis.url())?)))?;
    let report = serde_json::json!({
        "unit": "ns",
        "calls_per_run": CALLS,
        "open_and_close_per_call": open_close,
        "count_per_token": count,
        "receipt_signature": sign,
        "open_close_and_fold_to_memory_per_call": fold_memory,
        "open_close_and_fold_to_redis_per_call": fold_redis,
    });
    println!("{report:#}");
    Ok(())
}

fn meter() -> anyhow::Result<(tempfile::TempDir, Meter)> {
    let dir = tempfile::tempdir()?;
    let (usage_ledger, payment_channels) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let deployment = Deployment { chain_id: 1, usage_ledger, payment_channels };
    let operator = Operator { key: Key::from_bytes(B256::repeat_byte(3))?, deployment };
    let (meter, _) = Meter::open(dir.path(), MeterOptions::default(), operator, Arc::new(SystemClock))?;
    Ok((dir, meter))
}

fn opening(lane: u32) -> CallOpening {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&lane.to_le_bytes());
    CallOpening {
        call: None,
        payer: Payer::Key(key),
        model: ModelId([1; 32]),
        block: 1,
        price: PriceVersion { version: 1, in_pico_per_token: 100_000, out_pico_per_token: 400_000 },
        prompt_tokens: 30,
        hold_pico: 1,
    }
}

fn open_and_close(meter: &Meter, lanes: u32) -> anyhow::Result<Duration> {
    let began = Instant::now();
    for call in 0..CALLS {
        let guard = meter.open_call(opening(call % lanes))?;
        guard.prefilled(30);
        guard.generated(1);
        black_box(guard.close(CloseReason::Stop)?);
    }
    Ok(began.elapsed())
}

fn count_tokens() -> anyhow::Result<f64> {
    let (_dir, meter) = meter()?;
    let guard = meter.open_call(opening(0))?;
    let began = Instant::now();
    for _ in 0..TOKENS {
        guard.generated(black_box(1));
    }
    Ok(per(began.elapsed(), TOKENS))
}

fn sign_receipts() -> anyhow::Result<f64> {
    const SIGNATURES: u32 = 500;
    let (_dir, meter) = meter()?;
    let closed = meter.open_call(opening(0))?.close(CloseReason::Stop)?;
    let began = Instant::now();
    for _ in 0..SIGNATURES {
        black_box(closed.signature()?);
    }
    Ok(per(began.elapsed(), SIGNATURES))
}

/// Calls are served while the fold runs; the time ends when the store has confirmed the last.
async fn fold<S: AggregateStore + 'static>(store: S) -> anyhow::Result<f64> {
    let (_dir, meter) = meter()?;
    let running = meter.clone();
    let task = tokio::spawn(async move { running.run(store, std::future::pending()).await });
    let began = Instant::now();
    open_and_close(&meter, 1_000)?;
    meter.folded().await;
    let took = began.elapsed();
    task.abort();
    Ok(per(took, CALLS))
}

fn per(took: Duration, times: u32) -> f64 {
    took.as_nanos() as f64 / f64::from(times)
}

fn runs(mut run: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<serde_json::Value> {
    let mut times = (0..RUNS).map(|_| run()).collect::<anyhow::Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let [least, median, most] = [0, RUNS / 2, RUNS - 1].map(|index| times[index].round());
    Ok(serde_json::json!({ "median": median, "least": least, "most": most }))
}
