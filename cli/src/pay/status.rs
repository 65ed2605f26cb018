//! `dividend pay status`: a channel as its payer, the gateway and the chain know it.

use dividend_chain::{Address, B256};
use serde::{Serialize, Serializer};

use super::money::{Dollars, shown_pico};
use super::{Which, channel, store};
use crate::access::Access;
use crate::args::Global;
use crate::output::answer;
use crate::{runtime, settings};

#[derive(Serialize)]
struct Status {
    channel: B256,
    payer: Address,
    signer: Address,
    /// Deposited and not withdrawn.
    #[serde(serialize_with = "decimal")]
    deposit_units: u128,
    /// Redeemed by the operator.
    #[serde(serialize_with = "decimal")]
    redeemed_units: u128,
    /// Asked back and not yet taken.
    #[serde(serialize_with = "decimal")]
    withdrawal_units: u128,
    /// Unix second from which it can be taken; 0 without a request.
    withdrawable_at_s: u64,
    /// Sum of the highest vouchers.
    #[serde(serialize_with = "decimal")]
    promised_pico: u128,
    lanes: Vec<LaneStatus>,
}

#[derive(Serialize)]
struct LaneStatus {
    /// The model.
    lane: B256,
    /// Highest voucher signed.
    #[serde(serialize_with = "decimal")]
    promised_pico: u128,
    /// What the gateway said at the last call that it had served before.
    #[serde(serialize_with = "decimal")]
    served_pico: u128,
}

/// Prints the state of a channel.
pub(super) fn run(global: &Global, which: &Which) -> anyhow::Result<()> {
    let home = global.home()?;
    let settings = settings::of_running(global, &home)?;
    let store = store(global)?;
    let terms = store.terms(which.resolve(&store)?)?;
    let book = store.book(terms.channel)?;
    let on_chain = runtime::on_this_thread(async {
        let access = Access::open(&home, &settings.chain).await?;
        channel::look(&access, &terms).await
    })?;
    let status = Status {
        channel: terms.channel,
        payer: terms.payer,
        signer: terms.signer,
        deposit_units: on_chain.deposit,
        redeemed_units: on_chain.paid,
        withdrawal_units: on_chain.withdrawal,
        withdrawable_at_s: on_chain.withdrawableAt,
        promised_pico: book.signed_total_pico(),
        lanes: book
            .lanes()
            .map(|(lane, state)| LaneStatus {
                lane,
                promised_pico: state.signed_pico,
                served_pico: state.served_pico,
            })
            .collect(),
    };
    answer(global, &status, text)
}

fn text(status: &Status) -> String {
    let dollars = |units| Dollars { units };
    let mut lines = vec![
        format!("channel   {}", status.channel),
        format!("payer     {}", status.payer),
        format!("signer    {}", status.signer),
        format!("deposit   {}", dollars(status.deposit_units)),
        format!("redeemed  {}", dollars(status.redeemed_units)),
        format!("promised  {}", shown_pico(status.promised_pico)),
    ];
    if status.withdrawal_units > 0 {
        let (amount, at_s) = (dollars(status.withdrawal_units), status.withdrawable_at_s);
        lines.push(format!("asked     {amount} back, to be taken from {at_s} (unix seconds) on"));
    }
    for lane in &status.lanes {
        let (promised, served) = (shown_pico(lane.promised_pico), shown_pico(lane.served_pico));
        lines.push(format!("lane      {} promised {promised}, served {served}", lane.lane));
    }
    lines.join("\n")
}

/// An amount as a string of decimal digits, which no reader rounds.
pub(super) fn decimal<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
