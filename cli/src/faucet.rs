//! `dividend faucet`: gas and test dollars for an account of a local chain, so that a newcomer can try what costs money.

use std::path::PathBuf;

use dividend_chain::bindings::IDollar;
use dividend_chain::{Address, Intent, Key, U256};
use serde::Serialize;

use crate::access::Access;
use crate::args::Global;
use crate::bootstrap::money::provide_gas;
use crate::bootstrap::random_name;
use crate::failure::OrFail;
use crate::output::answer;
use crate::pay::money::Dollars;
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Key file of the account; made if it is not there.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Test dollars to give it.
    #[arg(long, value_name = "$", default_value = "20")]
    dollars: Dollars,
}

#[derive(Serialize)]
struct Given {
    address: Address,
    /// What it has now, in base units (µ$).
    balance_units: String,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let given = runtime::on_this_thread(self.give(global))?;
        answer(global, &given, |given| format!("{} has {} µ$", given.address, given.balance_units))
    }

    async fn give(self, global: &Global) -> anyhow::Result<Given> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let access = Access::open(&home, &settings.chain).await?;
        let address = Key::load_or_generate(&self.key)?.address();
        provide_gas(&access.rpc, address).await?;
        let sender = access.sender(&self.key).await?;
        let token = access.deployment.token;
        let mint = IDollar::mintCall { to: address, amount: U256::from(self.dollars.units) };
        let remedy =
            "only the test dollar of a local chain can be minted; elsewhere, have the account sent some";
        let id = format!("faucet/{}", random_name()?);
        sender.send(Intent::call(id, token, &mint)).await.or_fail("nothing was given", remedy)?;
        let balance = access.rpc.call(token, &IDollar::balanceOfCall { account: address }).await?;
        Ok(Given { address, balance_units: balance.to_string() })
    }
}
