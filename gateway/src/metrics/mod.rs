//! What Prometheus reads. Every label has few values, whatever is asked for.

mod engine;

use std::time::{Duration, Instant};

use dividend_meter::Usage;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::gateway::Gateway;

const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// The gateway's metrics. Counters move with the requests; gauges of other parts are read when they are scraped.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    calls: IntCounterVec,
    call_seconds: Histogram,
    pub first_token: Histogram,
    tokens_in: IntCounter,
    tokens_out: IntCounter,
    pub connections: IntGauge,
    pub calls_in_flight: IntGauge,
    scraped: Scraped,
}

/// Set at each scrape.
struct Scraped {
    /// Stands for the last fold until there is one.
    made: Instant,
    queue_waiting: IntGaugeVec,
    requests_in_flight: IntGauge,
    journal_bytes: IntGauge,
    journal_durable_bytes: IntGauge,
    journal_unclosed: IntGauge,
    journal_failing: IntGauge,
    window: IntGauge,
    fold_lag_bytes: IntGauge,
    fold_age_seconds: Gauge,
    snapshot_age_seconds: Gauge,
    snapshot_block: IntGauge,
    keys: IntGauge,
    draining: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let tokens =
            IntCounterVec::new(Opts::new("dividend_tokens_total", "Tokens metered"), &["direction"])?;
        r.register(Box::new(tokens.clone()))?;
        Ok(Self {
            requests: counters(r, "dividend_requests_total", "Requests answered", &["route", "status"])?,
            request_seconds: histograms(
                r,
                "dividend_request_seconds",
                "Time to the head of the answer",
                &["route"],
            )?,
            calls: counters(r, "dividend_calls_total", "Calls ended, by outcome", &["outcome"])?,
            call_seconds: histogram(r, "dividend_call_seconds", "Time from OPEN to CLOSE")?,
            first_token: histogram(
                r,
                "dividend_time_to_first_token_seconds",
                "Time from OPEN to the first token",
            )?,
            tokens_in: tokens.with_label_values(&["in"]),
            tokens_out: tokens.with_label_values(&["out"]),
            connections: gauge(r, "dividend_connections", "Connections open, both listeners")?,
            calls_in_flight: gauge(r, "dividend_calls_in_flight", "Calls between OPEN and CLOSE")?,
            scraped: Scraped::new(r)?,
            registry,
        })
    }

    /// A request was answered, at least with its head.
    pub(crate) fn answered(&self, route: &str, status: &str, elapsed: Duration) {
        self.requests.with_label_values(&[route, status]).inc();
        self.request_seconds.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    }

    /// A call was closed.
    pub(crate) fn call_ended(&self, outcome: &str, elapsed: Duration) {
        self.calls.with_label_values(&[outcome]).inc();
        self.call_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn tokens_used(&self, usage: Usage) {
        self.tokens_in.inc_by(usage.prompt_tokens.into());
        self.tokens_out.inc_by(usage.completion_tokens.into());
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn scrape(&self, gateway: &Gateway) -> Result<Vec<u8>, prometheus::Error> {
        self.scraped.read(gateway);
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        engine::write(&engines(gateway), &mut text);
        Ok(text.into_bytes())
    }
}

impl Scraped {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let waiting = Opts::new("dividend_queue_waiting", "Calls waiting for a place");
        let queue_waiting = IntGaugeVec::new(waiting, &["model"])?;
        r.register(Box::new(queue_waiting.clone()))?;
        Ok(Self {
            made: Instant::now(),
            queue_waiting,
            requests_in_flight: gauge(r, "dividend_requests_in_flight", "Requests being answered")?,
            journal_bytes: gauge(r, "dividend_journal_bytes", "Bytes of journal written")?,
            journal_durable_bytes: gauge(
                r,
                "dividend_journal_durable_bytes",
                "Bytes of journal on the disk",
            )?,
            journal_unclosed: gauge(
                r,
                "dividend_journal_unclosed",
                "Ended calls whose CLOSE waits for the disk",
            )?,
            journal_failing: gauge(r, "dividend_journal_failing", "1 while the journal takes no records")?,
            window: gauge(r, "dividend_window", "Number of the open window")?,
            fold_lag_bytes: gauge(r, "dividend_fold_lag_bytes", "Bytes of journal not yet in the aggregate")?,
            fold_age_seconds: float(
                r,
                "dividend_fold_age_seconds",
                "Time since the aggregate last took the totals, or since the start",
            )?,
            snapshot_age_seconds: float(
                r,
                "dividend_snapshot_age_seconds",
                "Time since the chain was last seen",
            )?,
            snapshot_block: gauge(r, "dividend_snapshot_block", "Block of the chain's snapshot")?,
            keys: gauge(r, "dividend_keys", "API keys, revoked ones included")?,
            draining: gauge(r, "dividend_draining", "1 while new calls are refused")?,
        })
    }

    fn read(&self, gateway: &Gateway) {
        let health = gateway.meter.health();
        self.requests_in_flight.set(signed(gateway.in_flight()));
        self.journal_bytes.set(signed(health.journal_bytes));
        self.journal_durable_bytes.set(signed(health.durable_bytes));
        self.journal_unclosed.set(signed(health.unclosed));
        self.journal_failing.set(health.append_error.is_some().into());
        self.window.set(signed(health.window));
        self.fold_lag_bytes.set(signed(health.fold_lag_bytes));
        let fold_age = match health.folded_at_ms {
            0 => self.made.elapsed(),
            at => Duration::from_millis(gateway.clock.unix_ms().saturating_sub(at)),
        };
        self.fold_age_seconds.set(fold_age.as_secs_f64());
        let snapshot = gateway.snapshot();
        self.snapshot_age_seconds.set(snapshot.age(Instant::now()).as_secs_f64());
        self.snapshot_block.set(signed(snapshot.block().number));
        self.keys.set(signed(gateway.keys.count()));
        self.draining.set(gateway.is_draining().into());
        for (model, served) in gateway.backends.all() {
            self.queue_waiting.with_label_values(&[&model.to_string()]).set(signed(served.queue.waiting()));
        }
    }
}

fn engines(gateway: &Gateway) -> Vec<engine::Scraped> {
    let served = gateway.backends.all().into_iter();
    let scraped = served.filter_map(|(model, served)| {
        let (backend, stats) = (served.backend.kind(), served.backend.engine_stats()?);
        Some(engine::Scraped { model: model.to_string(), backend, stats })
    });
    scraped.collect()
}

fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn histogram(r: &Registry, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(r: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::new(name, help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn float(r: &Registry, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
    let metric = Gauge::new(name, help)?;
    r.register(Box::new(metric.clone()))?;
    Ok(metric)
}
