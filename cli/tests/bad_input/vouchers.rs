//! Vouchers that do not pay.

use std::time::Duration;

use dividend_chain::Key;
use dividend_chain::eip712::Domain;
use dividend_gateway::payment::PaymentSignature;
use serde_json::Value;

use super::requests::assert_error;
use crate::support::client::{Client, question};
use crate::support::{Stack, read_json, within};

/// Far beyond every window and delay, in unix seconds.
const LATE: u64 = 40_000_000_000;
/// Two micro-dollars: less than the worst case of a long call.
const DEPOSIT: &str = "0.000002";

/// Opens a channel with next to nothing in it and tries to pay with vouchers that are no good; answers the channel.
pub async fn are_refused(stack: &Stack, client: &Client) -> String {
    let channel = open_channel(stack).await["channel"].as_str().unwrap().to_owned();
    until_known(client, &channel).await;
    let folder = stack.home().join("pay").join(&channel);
    let signer = Key::load(&folder.join("signer.key")).unwrap();
    let terms = read_json(&folder.join("channel.json"));
    let domain = Domain {
        chain_id: terms["chain_id"].as_u64().unwrap(),
        verifying_contract: terms["contract"].as_str().unwrap().parse().unwrap(),
    };
    let lane =
        stack.run(&["track", "show", "smollm2"]).await["champions"][0].as_str().unwrap().parse().unwrap();
    let good = PaymentSignature {
        channel: channel.parse().unwrap(),
        lane,
        max_cumulative: u128::MAX,
        expiry: LATE,
        signature: Vec::new().into(),
    };
    let signed = |key: &Key, payment: PaymentSignature| {
        let signature = key.sign(domain.digest(&payment.voucher())).unwrap().to_vec().into();
        PaymentSignature { signature, ..payment }.encode()
    };
    let mut other = good.clone();
    other.channel.0[0] ^= 1;
    let expired = PaymentSignature { expiry: 1_700_000_000, ..good.clone() };
    let low = PaymentSignature { max_cumulative: 1, ..good.clone() };
    let table = [
        ("no voucher at all", "bm90IGpzb24=".to_owned(), 400, "invalid_value", Some("payment-signature")),
        ("another signer", signed(&Key::generate(), good.clone()), 402, "voucher_signature", None),
        ("another channel", signed(&signer, other), 402, "unknown_channel", None),
        ("an expired voucher", signed(&signer, expired), 402, "voucher_expired", None),
        ("a voucher over too little", signed(&signer, low), 402, "voucher_too_low", None),
        ("more than the deposit", signed(&signer, good), 402, "channel_exhausted", None),
    ];
    for (name, header, status, code, param) in table {
        let body = question("smollm2", 2_000).to_string().into_bytes();
        let answer = client.post(body, &[("payment-signature", &header)]).await;
        assert_error(name, answer, status, code, param, "").await;
    }
    channel
}

/// Waits until the gateway has seen the channel.
async fn until_known(client: &Client, channel: &str) {
    let mut look = tokio::time::interval(Duration::from_millis(100));
    within("the gateway to see the channel", async {
        loop {
            look.tick().await;
            let body = question("smollm2", 1).to_string().into_bytes();
            let answer: Value =
                client.post(body, &[("dividend-channel", channel)]).await.json().await.unwrap();
            if answer["error"]["code"] == "voucher_missing" {
                return;
            }
        }
    })
    .await;
}

/// A channel of a newcomer, who is given the dollars for it.
async fn open_channel(stack: &Stack) -> Value {
    let key = stack.home().join("payer.key");
    let key = key.to_str().unwrap();
    let given = stack.run(&["faucet", "--key", key, "--dollars", "1"]).await;
    assert_eq!(given["balance_units"], "1000000", "{given}");
    let added = stack.run(&["escrow", "--add", "0.5", "--key", key]).await;
    assert_eq!(added["added_units"], "500000", "anybody may put dollars behind prepaid calls");
    stack.run(&["pay", "open", "--key", key, "--deposit", DEPOSIT]).await
}
