//! `dividend settle`: posts sealed windows, redeems vouchers, and hosts the dashboard.

mod metrics;

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dividend_chain::{Deployment, Key};
use dividend_config::Settings;
use dividend_dashboard::{LiveInputs, LiveSource};
use dividend_meter::{Clock, SystemClock};
use dividend_settlement::settler::{Operator, Report};
use dividend_settlement::{Error, OnChain, Paths, Settler, control};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::failure::{Failure, OrFail};
use crate::home::Home;
use crate::output::{answer, say};
use crate::serve::meter::contracts;
use crate::serve::{follow, until_ended};
use crate::settings::Overrides;
use crate::stop::StopSignals;
use crate::{access, runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    overrides: Overrides,
    /// Settle everything sealed so far, see it final, and end. A settler that runs in this home is asked to do it.
    #[arg(long)]
    once: bool,
    /// Longest that `--once` waits for finality.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "once")]
    timeout: u64,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        if self.once {
            let settings = self.overrides.apply(settings::of_running(global, &home)?);
            let wait = Duration::from_secs(self.timeout);
            let report = runtime::on_this_thread(once(&home, &settings, wait))?;
            answer(global, &report, text)?;
            return refuse_unsettled(&report);
        }
        let home = home.create()?;
        let settings = self.overrides.apply(settings::load(global, &home)?);
        runtime::log(&settings.log)?;
        runtime::on_all_cores(serve(home, settings))
    }
}

/// Asks the settler that runs in the home, or is one for as long as it takes.
async fn once(home: &Home, settings: &Settings, wait: Duration) -> anyhow::Result<Report> {
    let paths = Paths::of_home(home.root());
    if let Some(report) = control::ask(&paths.socket, wait).await? {
        return Ok(report);
    }
    say("no settler runs in this home; settling here");
    let deployment = access::load(home, &settings.chain)?;
    let mut settler = settler(&home.create()?, settings, &deployment).await?;
    Ok(settler.run_once(wait).await?)
}

/// Settles, follows the chain for the dashboard and serves it, until told to stop.
async fn serve(home: Home, settings: Settings) -> anyhow::Result<()> {
    let mut stop = StopSignals::listen()?;
    let address = settings.dashboard.listen;
    let remedy = "free the port, or set dashboard.listen";
    let listener = TcpListener::bind(address).await.or_fail(format!("dashboard {address}"), remedy)?;
    let deployment = access::load(&home, &settings.chain)?;
    let store = home.path("settle/follower.redb");
    let chain = tokio::select! {
        chain = follow(&store, &settings, &deployment) => chain?,
        () = stop.received() => return Ok(()),
    };
    let mut settler = settler(&home, &settings, &deployment).await?;
    let ended = CancellationToken::new();
    let inputs = LiveInputs {
        snapshots: chain.snapshots.clone(),
        journal_dir: home.path("serve"),
        ledger: settler.ledger(),
        prices: settings.prices.clone(),
    };
    let source = LiveSource::start(inputs, ended.clone().cancelled_owned()).await;
    let alive = get(async || "ok\n");
    let turns = settler.status();
    let figures = get(async move || scrape(&turns.borrow()));
    let pages = dividend_dashboard::router(source).route("/healthz", alive).route("/metrics", figures);
    let pages = tokio::spawn(dividend_dashboard::serve(listener, pages, ended.clone().cancelled_owned()));
    tracing::info!(dashboard = %address, operator = %deployment.operator, "settling");
    let settled = settler.run(until_ended(&mut stop, chain.lost())).await;
    ended.cancel();
    pages.await??;
    chain.follower.stop().await?;
    settled.map_err(Into::into)
}

/// The answer to `GET /metrics`.
fn scrape(report: &Report) -> Response {
    let now = Duration::from_millis(SystemClock.now_ms());
    match metrics::text(report, now) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The settler of the home.
async fn settler(
    home: &Home,
    settings: &Settings,
    deployment: &Deployment,
) -> anyhow::Result<Settler<OnChain>> {
    let key = Key::load(&home.operator_key())?;
    if key.address() != deployment.operator {
        return Err(Error::NotOperator { found: key.address(), expected: deployment.operator }.into());
    }
    let rpc = dividend_chain::Rpc::connect(&settings.chain)?;
    let sender = access::open_sender(home, &rpc, key.clone(), &settings.chain).await?;
    let books = OnChain::new(deployment.clone(), Arc::new(sender), settings.chain.finality);
    let operator = Operator { key, deployment: contracts(deployment), settings: settings.settlement.clone() };
    Ok(Settler::open(Paths::of_home(home.root()), books, operator, Arc::new(SystemClock))?)
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!(
        "{} windows confirmed, {} on their way; {} batches on their way; {} µ$ of vouchers waiting",
        report.windows_confirmed,
        report.windows_open.len(),
        report.batches_open,
        report.waiting_units,
    )];
    lines.push(format!("escrow {} µ$, royalty owed above it {} µ$", report.escrow_units, report.owed_units));
    for held in &report.held {
        lines.push(format!("held: channel {}, model {}: {}", held.channel, held.model, held.reason));
    }
    for problem in &report.problems {
        lines.push(format!("{}: {}", problem.step, problem.message));
    }
    lines.join("\n")
}

fn refuse_unsettled(report: &Report) -> anyhow::Result<()> {
    if report.is_settled() {
        return Ok(());
    }
    let failure = match report.problems.first() {
        Some(problem) => Failure::new(&problem.message, "once that is cured, settle again: nothing is lost"),
        None => Failure::new(
            format!("not everything is final at block {}", report.head),
            "settle again, with a longer --timeout: nothing is sent twice",
        ),
    };
    Err(failure.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_settled_is_a_failure_that_says_why() {
        assert!(refuse_unsettled(&Report::default()).is_ok());
        let waiting = Report { batches_open: 1, head: 7, ..Report::default() };
        assert!(refuse_unsettled(&waiting).unwrap_err().to_string().contains("block 7"));
        assert!(text(&waiting).contains("1 batches on their way"));
    }
}
