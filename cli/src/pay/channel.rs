//! A payer's channel on the chain: opening, looking, taking the rest back.

use dividend_chain::bindings::IPaymentChannels::{Channel, Config};
use dividend_chain::bindings::{IDollar, IPaymentChannels};
use dividend_chain::{Address, B256, Intent, Key, Mined, Sender, U256};

use super::money::Dollars;
use super::store::{Store, Terms};
use crate::access::Access;
use crate::failure::{Failure, OrFail};
use crate::output::say;

/// Opens a channel with a deposit: keeps its terms and its signer's key in the home, allows the contract to take the
/// deposit, opens, and waits until the deposit is final, for only then does a gateway count it.
pub(crate) async fn open(
    access: &Access,
    sender: &Sender,
    store: &Store,
    signer: &Key,
    deposit: Dollars,
) -> anyhow::Result<Terms> {
    let deployment = &access.deployment;
    let (token, channels) = (deployment.token, deployment.contracts.payment_channels);
    let amount = amount_of(deposit)?;
    check_balance(access, token, sender.address(), deposit).await?;
    let salt = random_salt()?;
    let config = Config { payer: sender.address(), signer: signer.address(), salt };
    let id = access.rpc.call(channels, &IPaymentChannels::channelIdCall { config: config.clone() }).await?;
    let terms = Terms {
        channel: id,
        chain_id: deployment.chain_id,
        contract: channels,
        token,
        payer: sender.address(),
        signer: signer.address(),
        salt,
    };
    store.create(&terms, signer)?;
    say(format_args!("allowing PaymentChannels to take {deposit}"));
    let approve = IDollar::approveCall { spender: channels, value: U256::from(amount) };
    sender.send(Intent::call(format!("pay/approve/{id}"), token, &approve)).await?;
    say(format_args!("opening channel {id}"));
    let open_id = format!("pay/open/{id}");
    sender.send(Intent::call(&open_id, channels, &IPaymentChannels::openCall { config, amount })).await?;
    say("waiting until the deposit is final");
    sender.finalized(&open_id).await?;
    Ok(terms)
}

/// What the chain knows of a channel.
pub(crate) async fn look(access: &Access, terms: &Terms) -> anyhow::Result<Channel> {
    check_same_deployment(access, terms)?;
    let call = IPaymentChannels::channelCall { id: terms.channel };
    let remedy = "the chain may have been reset; open a new channel";
    access.rpc.call(terms.contract, &call).await.or_fail(format!("channel {}", terms.channel), remedy)
}

/// Asks for the deposit back, as far as nothing was redeemed from it, or for `amount` of it. It can be taken after the
/// contract's delay, in which the gateway may still redeem what it served.
pub(crate) async fn request_withdrawal(
    access: &Access,
    sender: &Sender,
    terms: &Terms,
    amount: Option<Dollars>,
    now_s: u64,
) -> anyhow::Result<Channel> {
    check_payer(sender, terms)?;
    let channel = look(access, terms).await?;
    let left = channel.deposit.saturating_sub(channel.paid);
    let amount = amount.map(amount_of).transpose()?.unwrap_or(left);
    if amount == 0 || amount > left {
        let message = format!("channel {} has {} left to withdraw", terms.channel, Dollars { units: left });
        return Err(Failure::new(message, "ask for at most that with --amount").into());
    }
    let call = IPaymentChannels::requestWithdrawalCall { id: terms.channel, amount };
    // A new request replaces the one before, so that each is an intent of its own.
    sender
        .send(Intent::call(format!("pay/request/{}/{now_s}", terms.channel), terms.contract, &call))
        .await?;
    look(access, terms).await
}

/// Takes what was asked for and has matured.
pub(crate) async fn withdraw(access: &Access, sender: &Sender, terms: &Terms) -> anyhow::Result<Mined> {
    check_payer(sender, terms)?;
    let channel = look(access, terms).await?;
    if channel.withdrawal == 0 {
        let message = format!("no withdrawal of channel {} was asked for", terms.channel);
        return Err(Failure::new(message, "ask first: dividend pay close").into());
    }
    let id = format!("pay/withdraw/{}/{}", terms.channel, channel.withdrawableAt);
    let call = IPaymentChannels::finalizeWithdrawalCall { id: terms.channel };
    let remedy = "wait until the time that `dividend pay status` shows, or ask again if it has lapsed";
    sender.send(Intent::call(id, terms.contract, &call)).await.or_fail("the withdrawal was not paid", remedy)
}

fn check_payer(sender: &Sender, terms: &Terms) -> anyhow::Result<()> {
    if sender.address() == terms.payer {
        return Ok(());
    }
    let message = format!(
        "channel {} belongs to {}, but the key is of {}",
        terms.channel,
        terms.payer,
        sender.address()
    );
    Err(Failure::usage(message, "give the payer's key with --key").into())
}

fn check_same_deployment(access: &Access, terms: &Terms) -> anyhow::Result<()> {
    let here = (access.deployment.chain_id, access.deployment.contracts.payment_channels);
    if here == (terms.chain_id, terms.contract) {
        return Ok(());
    }
    let message = format!(
        "channel {} is of contract {} on chain {}, but this home's stack has {} on chain {}",
        terms.channel, terms.contract, terms.chain_id, here.1, here.0
    );
    Err(Failure::new(message, "name the home of that stack with --home, or open a new channel").into())
}

async fn check_balance(
    access: &Access,
    token: Address,
    payer: Address,
    deposit: Dollars,
) -> anyhow::Result<()> {
    let balance = access.rpc.call(token, &IDollar::balanceOfCall { account: payer }).await?;
    if balance >= U256::from(deposit.units) {
        return Ok(());
    }
    let message =
        format!("account {payer} has {balance} base units of {token}, less than the deposit of {deposit}");
    Err(Failure::new(message, "fund the account, or deposit less").into())
}

fn amount_of(amount: Dollars) -> anyhow::Result<u128> {
    if amount.units == 0 {
        return Err(
            Failure::usage("an amount of $0 moves nothing", "give an amount such as 5 or 0.25").into()
        );
    }
    Ok(amount.units)
}

fn random_salt() -> anyhow::Result<B256> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).or_fail("no randomness", "check the system's random source")?;
    Ok(B256::from(salt))
}
