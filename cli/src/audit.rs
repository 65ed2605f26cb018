//! `dividend audit`: recomputes every window from the journal alone, beside a running meter or without one.

use dividend_meter::aggregate::RedisStore;
use dividend_meter::audit::SealState;
use dividend_meter::{AuditReport, MeterError};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{answer, say};
use crate::pay::money::shown_pico;
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave the aggregate in Redis out.
    #[arg(long)]
    journal_only: bool,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        let dir = home.path("serve");
        let url = settings::of_running(global, &home)?.redis.url.filter(|_| !self.journal_only);
        let report = match url {
            None => dividend_meter::audit(&dir)?,
            Some(url) => {
                let mut store = RedisStore::new(&url)?;
                match runtime::on_this_thread(async {
                    Ok(dividend_meter::audit::audit_with_store(&dir, &mut store).await)
                })? {
                    Err(MeterError::Store(error)) => {
                        say(format!("the aggregate is left out: {error}"));
                        dividend_meter::audit(&dir)?
                    }
                    audited => audited?,
                }
            }
        };
        let report = report.ok_or_else(|| crate::journal::missing(&dir))?;
        answer(global, &report, table)?;
        match report.is_sound() {
            true => Ok(()),
            false => {
                let remedy = "keep the journal; find out who changed the seal or the aggregate";
                Err(Failure::new("the audit found differences", remedy).into())
            }
        }
    }
}

fn table(report: &AuditReport) -> String {
    let mut text = format!(
        "journal {}\n{} records, {} calls, {} charged, {} open, window {} open\n",
        report.journal,
        report.records,
        report.calls,
        shown_pico(report.charge_pico),
        report.open_calls.len(),
        report.open_window,
    );
    if report.tail_bytes > 0 {
        text += &format!(
            "{} bytes behind the last whole record cannot be read: being written, torn by a crash, or damaged\n",
            report.tail_bytes
        );
    }
    for window in &report.windows {
        let seal = match &window.seal {
            SealState::Equal => "seal equal".to_owned(),
            SealState::Missing => "no seal file; it is written when the meter is next opened".to_owned(),
            SealState::Differs(problem) => format!("SEAL DIFFERS: {problem}"),
        };
        let charged = shown_pico(window.charge_pico);
        text += &format!("window {:>4}  {:>6} calls  {charged}  {seal}\n", window.window, window.calls);
    }
    for aggregate in &report.aggregates {
        let state = match (aggregate.fence, aggregate.differences.as_slice()) {
            (None, _) => "being written".to_owned(),
            (Some(fence), []) => format!("equal up to offset {fence}"),
            (Some(_), differences) => format!("DIFFERS: {}", differences.join("; ")),
        };
        text += &format!("aggregate of window {:>4}  {state}\n", aggregate.window);
    }
    text
}
