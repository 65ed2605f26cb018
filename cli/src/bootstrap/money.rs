//! Money of the local chain: gas from nowhere, test dollars from the faucet.

use dividend_chain::bindings::{IDollar, IUsageLedger};
use dividend_chain::{Address, Deployment, Intent, Rpc, Sender, U256};

use crate::failure::OrFail;
use crate::output::say;

/// Gas money of a local account, in wei, and the balance below which it is given again.
const GAS_WEI: u128 = 1_000 * 1_000_000_000_000_000_000;
const GAS_LOW_WEI: u128 = GAS_WEI / 10;
/// What the operator gets, puts into its escrow and into its bond, in base units: 10,000 $, 1,000 $ and 1,000 $.
const OPERATOR_UNITS: u128 = 10_000_000_000;
const ESCROW_UNITS: u128 = 1_000_000_000;
const BOND_UNITS: u128 = 1_000_000_000;

/// Gas limit of a step that moves dollars. It is given, because a step cannot be estimated before the one that it needs.
const TRANSFER_GAS: u64 = 300_000;

/// Gives an account of the local chain gas money.
pub(crate) async fn provide_gas(rpc: &Rpc, account: Address) -> anyhow::Result<()> {
    if rpc.balance_wei(account).await? >= U256::from(GAS_LOW_WEI) {
        return Ok(());
    }
    let remedy = "run it on a local anvil; on another chain, send the account native coin";
    rpc.request::<_, Option<bool>>("anvil_setBalance", (account, U256::from(GAS_WEI)))
        .await
        .map(|_| ())
        .or_fail(format!("{account} has no gas money and cannot be given any"), remedy)
}

/// Gives the operator test dollars and fills the escrow that royalties are paid from and the bond behind receipts. The
/// intents are final after the first time: what was spent since is not replaced.
pub(super) async fn provide_dollars(operator: &Sender, deployment: &Deployment) -> anyhow::Result<()> {
    const LAST: &str = "bootstrap/bond";
    if operator.knows(LAST)? {
        operator.mined(LAST).await?;
        return Ok(());
    }
    say("funding the operator");
    let (token, ledger) = (deployment.token, deployment.contracts.usage_ledger);
    let mint = IDollar::mintCall { to: operator.address(), amount: U256::from(OPERATOR_UNITS) };
    let approve = IDollar::approveCall { spender: ledger, value: U256::from(ESCROW_UNITS + BOND_UNITS) };
    let top_up = |fund, amount| IUsageLedger::topUpCall { fund, amount };
    let escrow = top_up(IUsageLedger::Fund::Escrow, ESCROW_UNITS);
    let bond = top_up(IUsageLedger::Fund::Bond, BOND_UNITS);
    let capped = |intent: Intent| Intent { gas: Some(TRANSFER_GAS), ..intent };
    let intents = [
        Intent::call("bootstrap/mint", token, &mint),
        Intent::call("bootstrap/approve", token, &approve),
        Intent::call("bootstrap/escrow", ledger, &escrow),
        Intent::call(LAST, ledger, &bond),
    ];
    let ids = intents.each_ref().map(|intent| intent.id.clone());
    operator.submit(intents.map(capped).to_vec()).await?;
    for id in ids {
        operator.mined(&id).await?;
    }
    Ok(())
}
