//! The loop: a turn whenever the poll interval has passed or somebody asks, until told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::books::Books;
use crate::control::{Answer, Listener, Request};
use crate::settler::{Report, Settler};
use crate::{Error, Result};

/// Requests that wait at most; more are answered as busy.
const MAX_WAITING: usize = 32;

impl<B: Books> Settler<B> {
    /// Settles until `shutdown` resolves, and answers requests at the control socket meanwhile. Stopping takes at most
    /// the turn under way; nothing needs to be finished, since the ledger holds every step.
    ///
    /// # Errors
    /// [`Error::Control`] if the socket cannot be bound, [`Error::Stopped`] by a probe. What fails within a turn is in its
    /// [`Report`], is logged when it changes, and is tried again in the next.
    pub async fn run(&mut self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let (requests, mut waiting) = mpsc::channel(MAX_WAITING);
        let listener = Listener::bind(&self.paths.socket)?;
        let serving = listener.serve(requests);
        tokio::pin!(shutdown, serving);
        let mut ticks = interval(Duration::from_millis(self.operator.settings.poll_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = Vec::new();
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                () = &mut serving => return Ok(()),
                _ = ticks.tick() => {
                    let report = self.turn(false).await?;
                    show_problems(&report, &mut shown);
                }
                Some(request) = waiting.recv() => {
                    let Request { timeout, answer } = request;
                    tokio::select! {
                        () = &mut shutdown => return Ok(()),
                        () = &mut serving => return Ok(()),
                        settled = self.run_once(timeout) => {
                            // An error here means that the asker hung up, which is its right.
                            let _ = answer.send(Answer::from(settled));
                        }
                    }
                }
            }
        }
    }

    /// Settles everything that is sealed, waiting for no threshold, and sees it through to finality. Answers the last
    /// turn's report: [`Report::is_settled`], unless something is stuck or `timeout` passed first.
    ///
    /// # Errors
    /// [`Error::Stopped`] by a probe.
    pub async fn run_once(&mut self, timeout: Duration) -> Result<Report> {
        let deadline = Instant::now() + timeout;
        let mut ticks = interval(Duration::from_millis(self.operator.settings.poll_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            let report = self.turn(true).await?;
            if report.is_settled() || report.stuck().is_some() {
                return Ok(report);
            }
            if timeout_at(deadline, ticks.tick()).await.is_err() {
                return Ok(report);
            }
        }
    }
}

/// Logs a problem when it appears and when it is over, not on every turn.
fn show_problems(report: &Report, shown: &mut Vec<String>) {
    let now: Vec<String> = report.problems.iter().map(|problem| problem.message.clone()).collect();
    for problem in report.problems.iter().filter(|problem| !shown.contains(&problem.message)) {
        let (step, message, retryable) = (&problem.step, &problem.message, problem.retryable);
        tracing::error!(step, retryable, "{message}");
    }
    if now.is_empty() && !shown.is_empty() {
        tracing::info!("settlement works again");
    }
    *shown = now;
}

impl From<Result<Report, Error>> for Answer {
    fn from(settled: Result<Report, Error>) -> Self {
        match settled {
            Ok(report) => Self::Settled(Box::new(report)),
            Err(error) => Self::Error(error.to_string()),
        }
    }
}
