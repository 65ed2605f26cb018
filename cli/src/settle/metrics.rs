//! What Prometheus reads of the settler: the last turn's report, in numbers.

use std::time::Duration;

use dividend_settlement::settler::Report;
use prometheus::{Encoder, Gauge, GaugeVec, IntCounter, Opts, Registry, TextEncoder};

/// The report in Prometheus' text format, as read `now`. Amounts are in base units (µ$).
///
/// # Errors
/// [`prometheus::Error`] if a name is used twice.
pub(super) fn text(report: &Report, now: Duration) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::new();
    let age = now.saturating_sub(Duration::from_millis(report.at_ms));
    let gauges = [
        ("turn_age_seconds", "Time since the last turn began", age.as_secs_f64()),
        ("head_block", "The chain's newest block; 0 while it cannot be reached", report.head as f64),
        ("finalized_block", "The chain's newest final block", report.finalized as f64),
        ("windows_open", "Sealed windows on their way to being final", report.windows_open.len() as f64),
        ("batches_open", "Redeem batches on their way to being final", report.batches_open as f64),
        ("lanes_held", "Lanes of which something cannot be redeemed", report.held.len() as f64),
        ("waiting_units", "Value of vouchers that waits for a threshold", report.waiting_units as f64),
        ("escrow_units", "The operator's escrow", report.escrow_units as f64),
        ("owed_units", "Royalty posted that the escrow has not paid", report.owed_units as f64),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::new(format!("dividend_settle_{name}"), help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))?;
    }
    let confirmed = IntCounter::new("dividend_settle_windows_confirmed_total", "Windows that are final")?;
    confirmed.inc_by(report.windows_confirmed);
    registry.register(Box::new(confirmed))?;
    registry.register(Box::new(problems(report)?))?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

/// Steps that failed: those that the next turn may cure, and those that need somebody.
fn problems(report: &Report) -> Result<GaugeVec, prometheus::Error> {
    let opts = Opts::new("dividend_settle_problems", "Steps of the last turn that failed");
    let problems = GaugeVec::new(opts, &["retryable"])?;
    for retryable in [true, false] {
        let count = report.problems.iter().filter(|problem| problem.retryable == retryable).count();
        problems.with_label_values(&[retryable.to_string()]).set(count as f64);
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dividend_settlement::settler::Problem;

    #[test]
    fn the_report_is_told_in_numbers() {
        let problem = Problem { step: "seals".into(), message: "unreadable".into(), retryable: false };
        let report = Report {
            at_ms: 1_000,
            head: 12,
            windows_confirmed: 3,
            owed_units: 7,
            problems: vec![problem],
            ..Report::default()
        };
        let text = String::from_utf8(text(&report, Duration::from_millis(3_500)).unwrap()).unwrap();
        for line in [
            "dividend_settle_turn_age_seconds 2.5",
            "dividend_settle_head_block 12",
            "dividend_settle_windows_confirmed_total 3",
            "dividend_settle_owed_units 7",
            "dividend_settle_problems{retryable=\"false\"} 1",
            "dividend_settle_problems{retryable=\"true\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }
}
