//! Payment by channel, from the 402 to the journaled voucher.

use crate::support::{DEPLOYMENT, MODEL, OLD_MODEL, Plan, Reply, Stand, channel, chat_body, key, send};
use dividend_chain::Key;
use dividend_gateway::Clock;
use dividend_gateway::payment::{PaymentRequired, PaymentResponse, PaymentSignature};
use dividend_meter::Payer;
use dividend_registry::Withdrawal;

/// Far beyond every window and delay, in unix seconds.
const LATE: u64 = 40_000_000_000;
/// A call's worst case: 2 prompt tokens at 20, 4 tokens at 100.
const WORST: u128 = 440;
const CALL: &str = r#","max_tokens":4"#;

fn signed(signer: &Key, max_cumulative: u128, change: impl FnOnce(&mut PaymentSignature)) -> String {
    let mut payment = PaymentSignature {
        channel: channel(signer, 0).id,
        lane: MODEL.into(),
        max_cumulative,
        expiry: LATE,
        signature: Vec::new().into(),
    };
    change(&mut payment);
    if payment.signature.is_empty() {
        let digest = DEPLOYMENT.voucher_domain().digest(&payment.voucher());
        payment.signature = signer.sign(digest).expect("signed").to_vec().into();
    }
    payment.encode()
}

async fn stand(deposit_units: u128) -> Stand {
    Stand::start(Plan { channels: vec![channel(&key(8), deposit_units)], ..Plan::default() }).await
}

async fn pay(stand: &Stand, header: &str) -> Reply {
    let headers = [("payment-signature", header), ("authorization", "Bearer whatever-the-sdk-sends")];
    send(stand.api, "POST", "/v1/chat/completions", &headers, &chat_body(CALL)).await
}

fn required(reply: &Reply) -> PaymentRequired {
    assert_eq!(reply.status, 402, "{}", reply.body);
    PaymentRequired::decode(reply.header("payment-required")).expect("readable")
}

#[tokio::test]
async fn the_402_says_what_to_sign_and_the_voucher_then_pays() {
    let stand = stand(1).await;
    let id = channel(&key(8), 1).id;
    let named = [("dividend-channel", id.to_string())];
    let named: Vec<_> = named.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let asked = send(stand.api, "POST", "/v1/chat/completions", &named, &chat_body(CALL)).await;
    assert_eq!(asked.code(), "voucher_missing");
    let terms = required(&asked);
    assert_eq!((terms.scheme.as_str(), terms.network.as_str()), ("dividend-channel", "eip155:31337"));
    assert_eq!(
        (terms.channel, terms.lane, terms.pay_to),
        (Some(id), Some(MODEL), DEPLOYMENT.payment_channels)
    );
    assert_eq!((terms.served_cumulative, terms.max_cumulative, terms.call_maximum), (0, WORST, WORST));
    let header = signed(&key(8), terms.max_cumulative, |payment| payment.expiry = terms.min_expiry);
    let paid = pay(&stand, &header).await;
    assert_eq!(paid.status, 200, "{}", paid.body);
    let response = PaymentResponse::decode(paid.header("payment-response")).expect("readable");
    assert_eq!((response.served_cumulative, response.lane), (0, MODEL));
    assert_eq!(response.call, paid.header("dividend-receipt"));
    let again = required(&pay(&stand, &header).await);
    assert_eq!((again.served_cumulative, again.max_cumulative), (WORST, 2 * WORST));
    let journaled = stand.meter.highest_voucher(id, MODEL.into()).expect("journaled");
    assert_eq!(journaled.voucher.maxCumulative, WORST);
    assert_eq!(stand.meter.payer_total(Payer::Channel(id)).pico(), WORST);
    stand.finish().await;
}

#[tokio::test]
async fn a_voucher_over_all_there_is_is_served_sealed_and_exported() {
    let stand = stand(1_000).await;
    assert_eq!(pay(&stand, &signed(&key(8), u128::MAX, |_| {})).await.status, 200);
    let sealed = stand.operate("POST", "/admin/windows/seal", "").await;
    assert_eq!((sealed.status, &sealed.json()["window"]), (200, &0.into()), "{}", sealed.body);
    assert_eq!(sealed.json()["models"][0]["channel_sum_pico"], WORST.to_string());
    let mut exported = Vec::new();
    dividend_meter::export(&stand.dir.path().join("journal"), None, &mut exported).expect("exported");
    assert!(String::from_utf8_lossy(&exported).contains(&u128::MAX.to_string()));
    stand.finish().await;
}

#[tokio::test]
async fn a_voucher_pays_for_one_call_and_one_that_was_published_for_none() {
    let stand = stand(1_000).await;
    let generous = signed(&key(8), 100 * WORST, |_| {});
    assert_eq!(pay(&stand, &generous).await.status, 200);
    let again = pay(&stand, &generous).await;
    let terms = required(&again);
    assert_eq!((again.code().as_str(), terms.max_cumulative), ("voucher_used", 100 * WORST + 1));
    // Overtaken by the first: it is new, and covered by what the first one promised.
    assert_eq!(pay(&stand, &signed(&key(8), 2 * WORST, |_| {})).await.status, 200);
    assert_eq!(pay(&stand, &signed(&key(8), 2 * WORST, |_| {})).await.code(), "voucher_used");
    assert_eq!(pay(&stand, &signed(&key(8), terms.max_cumulative, |_| {})).await.status, 200);
    assert_eq!(stand.meter.payer_total(Payer::Channel(channel(&key(8), 0).id)).pico(), 3 * WORST);
    stand.finish().await;
}

#[tokio::test]
async fn a_high_voucher_that_soon_expires_carries_no_later_call() {
    // The highest is the one that is redeemed: were lower ones good beside it, they would be served for nothing.
    let clock = Clock::manual(1_800_000_000_000);
    let channels = vec![channel(&key(8), 1_000)];
    let stand = Stand::start(Plan { clock: clock.clone(), channels, ..Plan::default() }).await;
    let terms = required(&pay(&stand, &signed(&key(8), 1, |_| {})).await);
    let brief = signed(&key(8), 1_000 * WORST, |payment| payment.expiry = terms.min_expiry);
    assert_eq!(pay(&stand, &brief).await.status, 200);
    let meanwhile = pay(&stand, &signed(&key(8), 5 * WORST, |_| {})).await;
    assert_eq!(meanwhile.status, 200, "it lasts for a call that begins at the same time");
    clock.advance(1_000);
    let answer = pay(&stand, &signed(&key(8), 7 * WORST, |_| {})).await;
    assert_eq!((answer.status, answer.code().as_str()), (402, "voucher_expired"));
    let asked = required(&answer);
    assert_eq!(asked.max_cumulative, 1_000 * WORST + 1, "only a higher one can be redeemed for it");
    assert_eq!(pay(&stand, &signed(&key(8), asked.max_cumulative, |_| {})).await.status, 200);
    stand.finish().await;
}

#[tokio::test]
async fn a_voucher_over_nothing_introduces_its_signer_for_minutes() {
    let settings = |settings: &mut dividend_gateway::Settings| settings.limits.requests_per_minute = 4;
    let stand =
        Stand::start(Plan { settings, channels: vec![channel(&key(8), 1_000)], ..Plan::default() }).await;
    let now_s = dividend_meter::Clock::now_ms(&dividend_meter::SystemClock) / 1_000;
    let introduced = |expiry| {
        signed(&key(8), 0, |payment| {
            payment.lane = dividend_chain::B256::ZERO;
            payment.expiry = expiry;
        })
    };
    let terms = required(&pay(&stand, &introduced(now_s + 60)).await);
    assert_eq!((terms.lane, terms.max_cumulative), (Some(MODEL), WORST));
    let credits = [("payment-signature", introduced(now_s + 60))];
    let credits: Vec<_> = credits.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let credits = send(stand.api, "GET", "/v1/credits", &credits, "").await;
    assert_eq!(credits.json()["payer"], "channel", "{}", credits.body);
    for expiry in [now_s - 10, now_s + 1_000] {
        let refused = pay(&stand, &introduced(expiry)).await;
        assert_eq!((refused.status, refused.code().as_str()), (402, "voucher_signature"), "{}", refused.body);
    }

    // Asking does not count as calling.
    for _ in 0..2 {
        assert_eq!(pay(&stand, &introduced(now_s + 60)).await.status, 402);
    }

    // Strangers who name the channel, or repeat a voucher that has paid, use up their common limit and nothing of its own.
    let voucher = signed(&key(8), WORST, |_| {});
    assert_eq!(pay(&stand, &voucher).await.status, 200);
    let id = channel(&key(8), 0).id.to_string();
    let mut limited = 0;
    for _ in 0..6 {
        let named = [("dividend-channel", id.as_str())];
        let named = send(stand.api, "POST", "/v1/chat/completions", &named, &chat_body(CALL)).await;
        let repeated = pay(&stand, &voucher).await;
        limited += u32::from(named.status == 429) + u32::from(repeated.status == 429);
    }
    assert!(limited > 0);
    let terms = required(&pay(&stand, &introduced(now_s + 60)).await);
    assert_eq!(pay(&stand, &signed(&key(8), terms.max_cumulative, |_| {})).await.status, 200);
    stand.finish().await;
}

#[tokio::test]
async fn vouchers_that_do_not_pay_are_told_apart() {
    let stand = stand(1).await;
    let signer = key(8);
    let table: Vec<(String, &str)> = vec![
        (signed(&key(9), WORST, |_| {}), "voucher_signature"),
        (signed(&signer, WORST, |payment| payment.signature = vec![1; 64].into()), "voucher_signature"),
        (signed(&signer, WORST, |payment| payment.signature = vec![1; 65].into()), "voucher_signature"),
        (signed(&signer, WORST, |payment| payment.channel.0[0] ^= 1), "unknown_channel"),
        (signed(&signer, WORST, |payment| payment.lane = OLD_MODEL.into()), "voucher_lane"),
        (signed(&signer, WORST, |payment| payment.expiry = 1_700_000_000), "voucher_expired"),
        (signed(&signer, WORST - 1, |_| {}), "voucher_too_low"),
    ];
    for (header, code) in table {
        let reply = pay(&stand, &header).await;
        let terms = required(&reply);
        assert_eq!(reply.code(), code, "{terms:?}");
    }
    let garbage = pay(&stand, "not-base64!").await;
    assert_eq!((garbage.status, garbage.json()["error"]["param"].as_str()), (400, Some("payment-signature")));
    assert_eq!(stand.meter.health().in_flight, 0);
    assert!(
        stand.meter.highest_voucher(channel(&signer, 0).id, MODEL.into()).is_none(),
        "none was journaled"
    );
    stand.finish().await;
}

#[tokio::test]
async fn the_deposit_bounds_what_is_served_whatever_is_promised() {
    // One unit is 1,000,000 pico-dollars; a pending withdrawal takes all but 1,000 of it.
    let mut small = channel(&key(8), 2);
    small.withdrawal = Some(Withdrawal { amount_units: 2, matures_at_s: 0, lapses_at_s: LATE });
    let stand = Stand::start(Plan { channels: vec![small], ..Plan::default() }).await;
    let header = signed(&key(8), u128::MAX, |_| {});
    let reply = pay(&stand, &header).await;
    assert_eq!((reply.status, reply.code().as_str()), (402, "channel_exhausted"));
    assert!(reply.body.contains("has 0 left"), "{}", reply.body);
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_vouchers_may_overtake_each_other_but_not_outspend() {
    let stand = std::sync::Arc::new(stand(1_000).await);
    // Ten calls at once, the highest voucher first; lower ones are covered by it as far as it reaches.
    let calls: Vec<_> = (1..=10u128)
        .rev()
        .map(|nth| {
            let stand = stand.clone();
            tokio::spawn(async move { pay(&stand, &signed(&key(8), nth * WORST, |_| {})).await.status })
        })
        .collect();
    let mut served = 0;
    for call in calls {
        match call.await.expect("no panic") {
            200 => served += 1,
            status => assert_eq!(status, 402),
        }
    }
    let id = channel(&key(8), 0).id;
    let total = stand.meter.payer_total(Payer::Channel(id)).pico();
    let promised = stand.meter.highest_voucher(id, MODEL.into()).expect("journaled").voucher.maxCumulative;
    assert_eq!(total, WORST * served);
    assert!(served >= 1 && total <= promised, "{total} of {promised}");
    std::sync::Arc::into_inner(stand).expect("the last one").finish().await;
}
