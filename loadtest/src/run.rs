//! Carries out a plan.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::arrivals::Arrivals;
use crate::client::Client;
use crate::cpu;
use crate::plan::{Load, Plan};
use crate::report::{Observed, Report};
use crate::stats::{Recorder, Start};

/// The last stretch before a call is due is spun through: the kernel wakes a parked thread some 50 µs late.
const SPIN: Duration = Duration::from_micros(80);

/// More calls in flight than any machine has ports for.
const MAX_CONCURRENCY: u32 = 1 << 20;

/// Runs a plan on a runtime of its own with `threads` workers.
///
/// # Errors
/// A request that cannot be built, or a runtime that cannot start. Failing calls are part of the report.
pub fn blocking(plan: Plan, threads: usize) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(run(plan))
}

/// Runs a plan and reports on it.
///
/// # Errors
/// A request that cannot be built. Failing calls are part of the report.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let request = plan.call.request(&plan.target)?;
    let start = Instant::now();
    let generator = Arc::new(Generator {
        client: Client::new(plan.target.clone(), plan.call.stream),
        request,
        timeout: plan.timeout,
        counted_from: start + plan.warmup,
        recorder: Recorder::default(),
    });
    let cpu_before = cpu::used();
    let unsent = match &plan.load {
        Load::Open { arrivals, concurrency } => {
            open_loop(&generator, arrivals.clone(), *concurrency, start, plan.duration).await?
        }
        Load::Closed { callers } => {
            closed_loop(&generator, *callers, start + plan.duration).await;
            0
        }
    };
    let wall = start.elapsed();
    let cpu = cpu::used().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let stats = generator.recorder.take();
    Ok(Report::new(&plan, &stats, &Observed { wall, unsent, cpu }))
}

struct Generator {
    client: Client,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    counted_from: Instant,
    recorder: Recorder,
}

impl Generator {
    async fn call(&self, intended: Instant, held: bool) {
        let start = Start { intended, actual: Instant::now(), held };
        let answer = self.client.call(self.request.clone(), self.timeout).await;
        if intended >= self.counted_from {
            self.recorder.record(start, &answer);
        }
    }
}

/// Starts calls by the schedule and waits for the last one. Returns how many calls of the schedule, warm-up aside, were
/// never sent because the cap was reached until the end.
async fn open_loop(
    generator: &Arc<Generator>,
    arrivals: Arrivals,
    concurrency: u32,
    start: Instant,
    duration: Duration,
) -> anyhow::Result<u64> {
    let concurrency = concurrency.min(MAX_CONCURRENCY);
    let permits = Arc::new(Semaphore::new(concurrency as usize));
    let dispatcher = Dispatcher {
        generator: generator.clone(),
        permits: permits.clone(),
        runtime: Handle::current(),
        start,
        duration,
    };
    let unsent = tokio::task::spawn_blocking(move || dispatcher.dispatch(&arrivals))
        .await
        .context("the dispatching thread failed")?;
    // Every permit is back when every call has ended; each ends by its own timeout.
    let _idle = permits.acquire_many(concurrency).await.context("the semaphore is never closed")?;
    Ok(unsent)
}

/// Lives on a thread of its own: the runtime's timer has a grain of a millisecond, a schedule has not.
struct Dispatcher {
    generator: Arc<Generator>,
    permits: Arc<Semaphore>,
    runtime: Handle,
    start: Instant,
    duration: Duration,
}

impl Dispatcher {
    fn dispatch(&self, arrivals: &Arrivals) -> u64 {
        let mut offsets = arrivals.offsets(self.duration);
        // Once the cap was reached, lateness is the server's until the schedule is caught up with.
        let mut behind = false;
        while let Some(offset) = offsets.next() {
            let due = self.start + offset;
            behind &= Instant::now() > due;
            wait_until(due);
            let Some((permit, waited)) = self.permit() else {
                let counted_from = self.generator.counted_from;
                let left = std::iter::once(offset).chain(offsets);
                return left.filter(|offset| self.start + *offset >= counted_from).count() as u64;
            };
            behind |= waited;
            let generator = self.generator.clone();
            let held = behind;
            self.runtime.spawn(async move {
                generator.call(due, held).await;
                drop(permit);
            });
        }
        0
    }

    /// A place among the calls in flight and whether it had to be waited for, or `None` at the end of the run.
    fn permit(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some((permit, false));
        }
        let end = tokio::time::Instant::from_std(self.start + self.duration);
        let waiting = tokio::time::timeout_at(end, self.permits.clone().acquire_owned());
        match self.runtime.block_on(waiting) {
            Ok(Ok(permit)) => Some((permit, true)),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SPIN {
            thread::park_timeout(left - SPIN);
        } else {
            std::hint::spin_loop();
        }
    }
}

async fn closed_loop(generator: &Arc<Generator>, callers: usize, end: Instant) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let generator = generator.clone();
        tasks.spawn(async move {
            while Instant::now() < end {
                generator.call(Instant::now(), false).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a caller neither panics nor is aborted");
    }
}
