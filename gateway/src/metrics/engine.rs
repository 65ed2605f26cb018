//! What the engines count, read when it is scraped and written in Prometheus' text format.

use std::fmt::Write;

use dividend_engine::{EngineStats, Histogram};

/// An engine and its labels.
pub(super) struct Scraped {
    pub model: String,
    pub backend: &'static str,
    pub stats: EngineStats,
}

/// A metric with one value per engine, or one for each value of a further label.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    values: fn(&EngineStats) -> Vec<(&'static str, f64)>,
}

const METRICS: [Metric; 9] = [
    Metric {
        name: "dividend_engine_requests",
        help: "Requests inside the engine",
        kind: "gauge",
        values: |stats| {
            vec![(r#",state="waiting""#, count(stats.queued)), (r#",state="running""#, count(stats.active))]
        },
    },
    Metric {
        name: "dividend_engine_places",
        help: "Requests that can be computed at once",
        kind: "gauge",
        values: |stats| vec![("", count(stats.max_sequences))],
    },
    Metric {
        name: "dividend_engine_kv_blocks",
        help: "Blocks of the KV cache: held by requests, kept for prompts that begin alike, and in all",
        kind: "gauge",
        values: |stats| {
            vec![
                (r#",state="used""#, count(stats.kv_blocks_used)),
                (r#",state="cached""#, count(stats.kv_blocks_cached)),
                (r#",state="total""#, count(stats.kv_blocks_total)),
            ]
        },
    },
    Metric {
        name: "dividend_engine_prefill_budget_tokens",
        help: "Prompt tokens that the latest step had room for",
        kind: "gauge",
        values: |stats| vec![("", count(stats.prefill_budget))],
    },
    Metric {
        name: "dividend_engine_steps_total",
        help: "Passes of the model",
        kind: "counter",
        values: |stats| vec![("", stats.steps as f64)],
    },
    Metric {
        name: "dividend_engine_tokens_total",
        help: "Tokens of prompts computed, of prompts found in the cache, and of answers",
        kind: "counter",
        values: |stats| {
            vec![
                (r#",kind="prompt""#, stats.prompt_tokens as f64),
                (r#",kind="cached""#, stats.cached_prompt_tokens as f64),
                (r#",kind="generated""#, stats.generated_tokens as f64),
            ]
        },
    },
    Metric {
        name: "dividend_engine_seconds_total",
        help: "Time spent computing",
        kind: "counter",
        values: |stats| {
            vec![
                (r#",kind="prompt""#, stats.prefill_time.as_secs_f64()),
                (r#",kind="generated""#, stats.decode_time.as_secs_f64()),
            ]
        },
    },
    Metric {
        name: "dividend_engine_ended_total",
        help: "Requests that ended, and times that one was set aside because the KV cache was full",
        kind: "counter",
        values: |stats| {
            vec![
                (r#",outcome="finished""#, stats.finished as f64),
                (r#",outcome="cancelled""#, stats.cancelled as f64),
                (r#",outcome="failed""#, stats.failed as f64),
                (r#",outcome="expired_waiting""#, stats.expired_waiting as f64),
                (r#",outcome="expired_running""#, stats.expired_running as f64),
                (r#",outcome="set_aside""#, stats.preempted as f64),
            ]
        },
    },
    Metric {
        name: "dividend_engine_refused_total",
        help: "Requests that were not taken",
        kind: "counter",
        values: |stats| {
            vec![
                (r#",reason="queue_full""#, stats.refused.queue_full as f64),
                (r#",reason="too_long""#, stats.refused.too_long as f64),
                (r#",reason="invalid""#, stats.refused.invalid as f64),
                (r#",reason="late""#, stats.refused.late as f64),
                (r#",reason="unhealthy""#, stats.refused.unhealthy as f64),
            ]
        },
    },
];

/// Name, help, and where it is.
type Spans = (&'static str, &'static str, fn(&EngineStats) -> &Histogram);

const SPANS: [Spans; 3] = [
    ("dividend_engine_queue_wait_seconds", "From a request's arrival until it is begun", |stats| {
        &stats.queue_wait
    }),
    ("dividend_engine_first_token_seconds", "From a request's arrival until its first token", |stats| {
        &stats.time_to_first_token
    }),
    ("dividend_engine_inter_token_seconds", "From one token of an answer to its next", |stats| {
        &stats.inter_token
    }),
];

/// Appends the metrics of all engines.
pub(super) fn write(engines: &[Scraped], out: &mut String) {
    if engines.is_empty() {
        return;
    }
    for Metric { name, help, kind, values } in METRICS {
        head(out, name, help, kind);
        for engine in engines {
            for (label, value) in values(&engine.stats) {
                line(out, name, &engine.labels(label), value);
            }
        }
    }
    for (name, help, spans) in SPANS {
        head(out, name, help, "histogram");
        for engine in engines {
            let histogram = spans(&engine.stats);
            for (bound, count) in histogram.buckets() {
                let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
                let labels = engine.labels(&format!(",le=\"{bound}\""));
                line(out, &format!("{name}_bucket"), &labels, count as f64);
            }
            line(out, &format!("{name}_sum"), &engine.labels(""), histogram.sum.as_secs_f64());
            line(out, &format!("{name}_count"), &engine.labels(""), histogram.count() as f64);
        }
    }
}

impl Scraped {
    /// The labels, of which none needs escaping: an id of hex digits and a word.
    fn labels(&self, more: &str) -> String {
        format!("model=\"{}\",backend=\"{}\"{more}", self.model, self.backend)
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
}

fn count(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_labelled_and_every_family_is_described_once() {
        let engine = |model: &str| Scraped {
            model: model.to_owned(),
            backend: "packed",
            stats: EngineStats { prompt_tokens: 7, ..EngineStats::default() },
        };
        let mut out = String::new();
        write(&[engine("0x01"), engine("0x02")], &mut out);
        assert!(
            out.contains(
                "dividend_engine_tokens_total{model=\"0x02\",backend=\"packed\",kind=\"prompt\"} 7\n"
            )
        );
        assert!(out.contains(
            "dividend_engine_queue_wait_seconds_bucket{model=\"0x01\",backend=\"packed\",le=\"+Inf\"} 0\n"
        ));
        let types: Vec<&str> = out.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(types.len(), METRICS.len() + SPANS.len());
        assert!(
            out.lines().filter(|line| !line.starts_with('#')).all(|line| line.contains("backend=\"packed\""))
        );
        let mut nothing = String::new();
        write(&[], &mut nothing);
        assert!(nothing.is_empty());
    }
}
