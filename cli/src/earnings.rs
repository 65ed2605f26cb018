//! `dividend earnings`: what an address has earned, to the call.

use dividend_chain::Address;
use dividend_meter::LiveLedger;
use dividend_settlement::earnings::Amounts;
use dividend_settlement::{Earnings, LaneTotals};

use crate::access::Access;
use crate::args::Global;
use crate::home::Home;
use crate::output::answer;
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The payee.
    address: Address,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let earnings = runtime::on_this_thread(self.earnings(global))?;
        answer(global, &earnings, text)
    }

    async fn earnings(self, global: &Global) -> anyhow::Result<Earnings> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let access = Access::open(&home, &settings.chain).await?;
        // The journal first: what it has is on the chain later, never the other way round.
        let totals = metered(&home).await?;
        let snapshot = access.snapshot().await?;
        Ok(dividend_settlement::earnings(self.address, &snapshot, &totals))
    }
}

/// The totals of the home's journal, read while it is written.
pub(crate) async fn metered(home: &Home) -> anyhow::Result<LaneTotals> {
    let mut journal = LiveLedger::new(&home.path("serve"));
    let read = move || -> anyhow::Result<LaneTotals> {
        journal.refresh()?;
        Ok(journal.ledger().map(LaneTotals::of_journal).transpose()?.unwrap_or_default())
    };
    tokio::task::spawn_blocking(read).await?
}

fn text(earnings: &Earnings) -> String {
    let row = |what: &str, amounts: &Amounts| {
        let Amounts { accrued_units, credited_units, claimable_units, claimed_units } = amounts;
        format!("{accrued_units:>14} {credited_units:>14} {claimable_units:>14} {claimed_units:>14}  {what}")
    };
    let mut lines = vec![
        format!("{} at block {}, in µ$", earnings.address, earnings.block),
        format!("{:>14} {:>14} {:>14} {:>14}", "accrued", "credited", "claimable", "claimed"),
    ];
    for model in &earnings.models {
        lines.push(row(&model.model.to_string(), &model.amounts));
    }
    lines.push(row("all models", &earnings.amounts));
    lines.join("\n")
}
