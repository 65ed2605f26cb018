//! `dividend escrow`: dollars behind prepaid calls. Their royalty is paid out of the operator's escrow; while it is owed
//! more than there is, prepaid keys are not served.

use std::path::PathBuf;

use dividend_chain::bindings::{IDollar, IUsageLedger};
use dividend_chain::{Intent, U256};
use serde::Serialize;

use crate::access::Access;
use crate::args::Global;
use crate::failure::{Failure, OrFail};
use crate::output::{answer, say};
use crate::pay::money::Dollars;
use crate::{bootstrap, runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Dollars to add.
    #[arg(long, value_name = "$")]
    add: Dollars,
    /// Key file of the account that pays. Anybody may; not `keys/operator.key` while `settle` runs, which sends with it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Serialize)]
struct Added {
    added_units: String,
    transaction: String,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let added = runtime::on_this_thread(self.top_up(global))?;
        answer(global, &added, |added| format!("{} µ$ added in {}", added.added_units, added.transaction))
    }

    async fn top_up(self, global: &Global) -> anyhow::Result<Added> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let access = Access::open(&home, &settings.chain).await?;
        let sender = access.sender(&self.key).await?;
        let (token, ledger) = (access.deployment.token, access.deployment.contracts.usage_ledger);
        let account = sender.address();
        let balance = access.rpc.call(token, &IDollar::balanceOfCall { account }).await?;
        if balance < U256::from(self.add.units) {
            let message = format!("{account} has {balance} base units of {token}, less than {}", self.add);
            return Err(Failure::new(message, "fund the account, or add less").into());
        }
        let gift = bootstrap::random_name()?;
        say(format_args!("allowing UsageLedger to take {}", self.add));
        let approve = IDollar::approveCall { spender: ledger, value: U256::from(self.add.units) };
        sender.send(Intent::call(format!("escrow/{gift}/approve"), token, &approve)).await?;
        let call = IUsageLedger::topUpCall { fund: IUsageLedger::Fund::Escrow, amount: self.add.units };
        let sent = sender.send(Intent::call(format!("escrow/{gift}"), ledger, &call)).await;
        let mined = sent.or_fail("nothing was added", "see the reason, and run it again")?;
        Ok(Added { added_units: self.add.units.to_string(), transaction: mined.transaction.to_string() })
    }
}
