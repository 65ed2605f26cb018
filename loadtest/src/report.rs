//! What a run found, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::plan::{Load, Plan};
use crate::stats::{Quantiles, Stats};

/// A generator that starts calls later than this, at the 99th percentile, measures itself.
const MAX_LAG_P99_MICROS: u64 = 2_000;
/// A schedule of which less than this part was sent was not kept.
const MIN_SENT: f64 = 0.99;

/// What the run knows beside the calls' own statistics.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// From the first intended start to the last byte.
    pub wall: Duration,
    /// Calls of the schedule that were never sent.
    pub unsent: u64,
    /// The generator's own CPU time, where the system tells it.
    pub cpu: Option<Duration>,
}

/// The result of a run. Times are in microseconds unless a name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// "open" or "closed".
    pub mode: &'static str,
    /// The plan in words.
    pub plan: String,
    /// From the first intended start to the last byte, seconds.
    pub wall_s: f64,
    /// Calls by fate.
    pub calls: Calls,
    /// Calls by status or failure.
    pub statuses: BTreeMap<String, u64>,
    /// Calls per second that the schedule asked for; absent in closed loop.
    pub rate_planned: Option<f64>,
    /// Successful calls per second of counted time.
    pub rate_ok: f64,
    /// Tokens of successful calls.
    pub tokens: Tokens,
    /// Latencies of successful calls from their intended start.
    pub latency_us: Latency,
    /// How the generator itself fared.
    pub generator: GeneratorHealth,
}

/// Calls by fate, warm-up aside.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Calls {
    /// Sent and counted.
    pub sent: u64,
    /// Succeeded.
    pub ok: u64,
    /// Failed in any way.
    pub failed: u64,
    /// Due but never sent: the cap on concurrency was reached until the end.
    pub unsent: u64,
    /// Started late because of the cap.
    pub held: u64,
}

/// Tokens as the server states them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tokens {
    /// Prompt tokens.
    pub prompt: u64,
    /// Generated tokens.
    pub completion: u64,
    /// Generated tokens per second of counted time.
    pub completion_per_s: f64,
}

/// Distributions, absent where there was nothing to measure.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// To the first text of a stream.
    pub first_token: Option<Quantiles>,
    /// Between the texts of a stream.
    pub inter_token: Option<Quantiles>,
    /// To the last byte.
    pub total: Option<Quantiles>,
}

/// Whether the figures are the server's or the generator's.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorHealth {
    /// Whether every figure can be taken at its word.
    pub kept_up: bool,
    /// What to doubt, and what to change.
    pub problems: Vec<String>,
    /// How late calls were started that no cap held.
    pub start_lag_us: Option<Quantiles>,
    /// Own CPU time per wall time, in cores.
    pub cpu_cores: Option<f64>,
    /// Own CPU time per call sent, warm-up included in the time.
    pub cpu_us_per_call: Option<f64>,
}

impl Report {
    /// Puts a run's figures together and judges whether the generator kept its schedule.
    pub fn new(plan: &Plan, stats: &Stats, observed: &Observed) -> Self {
        let (mode, rate_planned) = match &plan.load {
            Load::Open { arrivals, .. } => ("open", Some(arrivals.rate)),
            Load::Closed { .. } => ("closed", None),
        };
        let counted_s = observed.wall.saturating_sub(plan.warmup).as_secs_f64().max(f64::MIN_POSITIVE);
        let (sent, ok) = (stats.calls(), stats.ok());
        let calls = Calls { sent, ok, failed: sent - ok, unsent: observed.unsent, held: stats.held };
        Self {
            mode,
            plan: plan.to_string(),
            wall_s: observed.wall.as_secs_f64(),
            calls,
            statuses: statuses(stats),
            rate_planned,
            rate_ok: ok as f64 / counted_s,
            tokens: Tokens {
                prompt: stats.prompt_tokens,
                completion: stats.completion_tokens,
                completion_per_s: stats.completion_tokens as f64 / counted_s,
            },
            latency_us: Latency {
                first_token: Quantiles::of(&stats.first_token),
                inter_token: Quantiles::of(&stats.inter_token),
                total: Quantiles::of(&stats.total),
            },
            generator: GeneratorHealth::judge(&plan.load, calls, stats, observed),
        }
    }
}

fn statuses(stats: &Stats) -> BTreeMap<String, u64> {
    let mut by_label = BTreeMap::new();
    for (outcome, count) in &stats.outcomes {
        *by_label.entry(outcome.label()).or_default() += count;
    }
    by_label
}

impl GeneratorHealth {
    fn judge(load: &Load, calls: Calls, stats: &Stats, observed: &Observed) -> Self {
        let cpu_cores = observed.cpu.map(|cpu| cpu.as_secs_f64() / observed.wall.as_secs_f64().max(1e-9));
        let cpu_us_per_call =
            observed.cpu.filter(|_| calls.sent > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / calls.sent as f64);
        let mut problems = Vec::new();
        let start_lag_us = Quantiles::of(&stats.lag);
        if let Load::Open { concurrency, .. } = load {
            let due = calls.sent + calls.unsent;
            if (calls.sent as f64) < MIN_SENT * due as f64 {
                problems.push(format!(
                    "{} of {due} calls were never sent: {concurrency} calls in flight was the cap until the end. The \
                     server does not keep this rate; if it should, raise --concurrency",
                    calls.unsent
                ));
            }
            if let Some(lag) = start_lag_us.as_ref().filter(|lag| lag.p99 > MAX_LAG_P99_MICROS) {
                let cores = cpu_cores.map_or_else(|| "?".into(), |cores| format!("{cores:.2}"));
                problems.push(format!(
                    "calls were started late by the generator itself, {} µs at the 99th percentile, with {cores} cores \
                     of CPU used: latencies hold its delay too. Give it a core of its own, or lower the rate",
                    lag.p99
                ));
            }
        }
        Self {
            kept_up: problems.is_empty(),
            problems,
            start_lag_us: start_lag_us.filter(|_| matches!(load, Load::Open { .. })),
            cpu_cores,
            cpu_us_per_call,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calls { sent, ok, failed, unsent, held } = self.calls;
        writeln!(
            f,
            "calls      {sent} sent: {ok} ok, {failed} failed; {unsent} unsent, {held} held by the cap"
        )?;
        for (label, count) in &self.statuses {
            writeln!(f, "           {count:>9}  {label}")?;
        }
        write!(f, "rate       {:.1} ok/s over {:.2} s", self.rate_ok, self.wall_s)?;
        match self.rate_planned {
            Some(planned) => writeln!(f, " ({planned} planned)")?,
            None => writeln!(f)?,
        }
        let Tokens { prompt, completion, completion_per_s } = self.tokens;
        writeln!(f, "tokens     {prompt} in, {completion} out, {completion_per_s:.1} out/s")?;
        writeln!(
            f,
            "{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "latency, ms", "n", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        row(f, "first token", self.latency_us.first_token.as_ref())?;
        row(f, "inter-token", self.latency_us.inter_token.as_ref())?;
        row(f, "total", self.latency_us.total.as_ref())?;
        row(f, "start lag", self.generator.start_lag_us.as_ref())?;
        if let (Some(cores), Some(per_call)) = (self.generator.cpu_cores, self.generator.cpu_us_per_call) {
            writeln!(f, "generator  {cores:.2} cores, {per_call:.0} µs of CPU per call")?;
        }
        for problem in &self.generator.problems {
            writeln!(f, "WARNING    {problem}")?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, quantiles: Option<&Quantiles>) -> fmt::Result {
    let Some(q) = quantiles else { return Ok(()) };
    write!(f, "{name:<14}{:>10}{:>10.3}", q.count, q.mean / 1000.0)?;
    for micros in [q.p50, q.p90, q.p99, q.p999, q.max] {
        write!(f, "{:>10.3}", micros as f64 / 1000.0)?;
    }
    writeln!(f)
}
