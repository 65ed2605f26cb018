//! The proxy between a real HTTP client and a small gateway that speaks 402.

use std::convert::Infallible;
use std::sync::Mutex;

use axum::Json;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dividend_chain::eip712::Domain;
use dividend_chain::{Address, B256, Key, key};
use dividend_gateway::payment::{PaymentSignature, SCHEME};
use dividend_registry::ModelId;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::pay::book::Caps;
use crate::pay::store::{Store, Terms};

const LANE: ModelId = ModelId([5; 32]);
const NOW_S: u64 = 1_000_000;
/// What a call may cost, and what it does cost, in pico-dollars.
const WORST: u128 = 100;
const COST: u128 = 30;

fn terms(signer: Address) -> Terms {
    Terms {
        channel: B256::repeat_byte(1),
        chain_id: 31337,
        contract: Address::repeat_byte(0xcc),
        token: Address::repeat_byte(0xdd),
        payer: Address::repeat_byte(0xaa),
        signer,
        salt: B256::ZERO,
    }
}

/// How the small gateway answers a paid call.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Whole,
    /// In pieces that the test lets go one by one.
    Stream,
    /// Only when the test ends.
    Never,
}

/// A gateway with one lane that demands exactly what the protocol allows it to.
struct Gate {
    signer: Address,
    answer: Answer,
    /// Forged into the 402: `(pointer, value)`.
    forge: Option<(&'static str, Value)>,
    lane: Mutex<GateLane>,
    /// The pieces of a stream.
    pieces: Mutex<Option<mpsc::UnboundedReceiver<Bytes>>>,
    /// Resolves when the call is dropped.
    dropped: Mutex<Option<oneshot::Sender<()>>>,
    /// A paid call has arrived.
    reached: tokio::sync::Notify,
}

#[derive(Default)]
struct GateLane {
    served: u128,
    held: u128,
    vouchers: Vec<u128>,
    seen: Vec<HeaderMap>,
    calls_in_parallel: usize,
    most_in_parallel: usize,
}

impl Gate {
    fn required(&self) -> Value {
        let lane = self.lane.lock().unwrap();
        let mut required = json!({
            "x402Version": 2,
            "scheme": SCHEME,
            "network": "eip155:31337",
            "asset": Address::repeat_byte(0xdd),
            "payTo": Address::repeat_byte(0xcc),
            "channel": B256::repeat_byte(1),
            "lane": LANE,
            "servedCumulative": lane.served.to_string(),
            "maxCumulative": (lane.served + lane.held + WORST).to_string(),
            "callMaximum": WORST.to_string(),
            "minExpiry": NOW_S + 500,
            "error": "pay first",
        });
        if let Some((field, value)) = &self.forge {
            required[*field] = value.clone();
        }
        required
    }

    fn is_paid(&self, payment: &PaymentSignature) -> bool {
        let voucher = payment.voucher();
        let domain = Domain { chain_id: 31337, verifying_contract: Address::repeat_byte(0xcc) };
        assert_eq!(key::recover(domain.digest(&voucher), &payment.signature).unwrap(), self.signer);
        if voucher.maxCumulative == 0 {
            assert!((NOW_S..=NOW_S + 300).contains(&voucher.expiry), "an introduction is soon void");
            return false;
        }
        assert!(voucher.expiry >= NOW_S + 500);
        assert_eq!(voucher.lane, B256::from(LANE));
        let mut lane = self.lane.lock().unwrap();
        assert!(!lane.vouchers.contains(&voucher.maxCumulative), "a voucher pays once");
        lane.vouchers.push(voucher.maxCumulative);
        if voucher.maxCumulative < lane.served + lane.held + WORST {
            return false;
        }
        lane.held += WORST;
        lane.calls_in_parallel += 1;
        lane.most_in_parallel = lane.most_in_parallel.max(lane.calls_in_parallel);
        true
    }

    fn close(&self) {
        let mut lane = self.lane.lock().unwrap();
        lane.held -= WORST;
        lane.served += COST;
        lane.calls_in_parallel -= 1;
    }
}

async fn gate(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    gate.lane.lock().unwrap().seen.push(request.headers().clone());
    if request.uri().path() == "/v1/models" {
        return Json(json!({ "object": "list" })).into_response();
    }
    let signature = request.headers().get(SIGNATURE_HEADER).map(|value| value.to_str().unwrap().to_owned());
    let payment = signature.map(|header| PaymentSignature::decode(&header).unwrap());
    if !payment.is_some_and(|payment| gate.is_paid(&payment)) {
        let header = STANDARD.encode(gate.required().to_string());
        let body = Json(json!({ "error": { "message": "pay first", "code": "payment_required" } }));
        return (StatusCode::PAYMENT_REQUIRED, [(REQUIRED_HEADER, header)], body).into_response();
    }
    served(&gate).await
}

/// Tells the test when the call it stands for is dropped.
struct OnDrop(Option<oneshot::Sender<()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

async fn served(gate: &Gate) -> Response {
    let on_drop = OnDrop(gate.dropped.lock().unwrap().take());
    gate.reached.notify_one();
    let paid = json!({
        "scheme": SCHEME, "network": "eip155:31337", "call": "c", "channel": B256::repeat_byte(1), "lane": LANE,
        "servedCumulative": gate.lane.lock().unwrap().served.to_string(),
    });
    let header = [(RESPONSE_HEADER, STANDARD.encode(paid.to_string()))];
    match gate.answer {
        Answer::Whole => {
            // Calls overlap, as those of a thinking model do.
            tokio::task::yield_now().await;
            gate.close();
            (header, Json(json!({ "choices": [] }))).into_response()
        }
        Answer::Stream => {
            let pieces = gate.pieces.lock().unwrap().take().unwrap();
            let state = (pieces, on_drop);
            let stream = futures_util::stream::unfold(state, |(mut pieces, on_drop)| async move {
                let piece = pieces.recv().await?;
                Some((Ok::<_, Infallible>(piece), (pieces, on_drop)))
            });
            (header, Body::from_stream(stream)).into_response()
        }
        Answer::Never => {
            let _on_drop = on_drop;
            std::future::pending().await
        }
    }
}

/// A gateway, a proxy in front of it and a client.
struct Bench {
    gate: Arc<Gate>,
    url: String,
    client: reqwest::Client,
    home: tempfile::TempDir,
    pieces: mpsc::UnboundedSender<Bytes>,
    dropped: Option<oneshot::Receiver<()>>,
    upstream: String,
}

const CAPS: Caps = Caps { total_pico: 10_000, call_pico: 1_000 };

impl Bench {
    async fn new(answer: Answer, caps: Caps) -> Self {
        Self::forging(answer, caps, None).await
    }

    async fn forging(answer: Answer, caps: Caps, forge: Option<(&'static str, Value)>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let signer = Key::generate();
        let store = Store::new(home.path().to_owned());
        store.create(&terms(signer.address()), &signer).unwrap();
        let (sender, pieces) = mpsc::unbounded_channel();
        let (dropping, dropped) = oneshot::channel();
        let gate = Arc::new(Gate {
            signer: signer.address(),
            answer,
            forge,
            lane: Mutex::default(),
            pieces: Mutex::new(Some(pieces)),
            dropped: Mutex::new(Some(dropping)),
            reached: tokio::sync::Notify::new(),
        });
        let router = Router::new().fallback(super::tests::gate).with_state(gate.clone());
        let upstream = format!("http://{}", serve(router).await);
        let url = start_proxy(&store, caps, &upstream).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { gate, url, client, home, pieces: sender, dropped: Some(dropped), upstream }
    }

    fn chat(&self) -> reqwest::RequestBuilder {
        let body = r#"{"model":"smollm2","messages":[]}"#;
        let url = format!("{}/v1/chat/completions?x=1", self.url);
        self.client.post(url).header("authorization", "Bearer unused").header("x-own", "kept").body(body)
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn start_proxy(store: &Store, caps: Caps, upstream: &str) -> String {
    let (held, key, book) = store.hold(B256::repeat_byte(1)).unwrap();
    let payer = Payer::new(terms(key.address()), key, caps, book, held.book_path(), || NOW_S);
    let proxy = Proxy::new(payer, &format!("{upstream}/v1/")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(proxy.serve(listener, std::future::pending()));
    // The lock is given back at once, so that a test can start a second proxy as if the first had died.
    drop(held);
    url
}

async fn error_of(response: reqwest::Response) -> (u16, String, Option<String>) {
    let status = response.status().as_u16();
    let retry = response.headers().get("x-should-retry").map(|value| value.to_str().unwrap().to_owned());
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string());
    (status, body["error"]["code"].as_str().unwrap().to_owned(), retry)
}

#[tokio::test]
async fn an_unchanged_client_pays_by_channel() {
    let bench = Bench::new(Answer::Whole, CAPS).await;
    for call in 1..=3u128 {
        let response = bench.chat().send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), r#"{"choices":[]}"#);
        assert_eq!(bench.gate.lane.lock().unwrap().served, call * COST);
    }
    let lane = bench.gate.lane.lock().unwrap();
    assert_eq!(lane.vouchers, [100, 130, 160], "each call is promised its own worst case and no more");
    for headers in &lane.seen {
        assert!(!headers.contains_key("authorization"), "the stand-in for a key stays here");
        assert_eq!(headers["x-own"], "kept");
        assert!(headers.contains_key(SIGNATURE_HEADER), "every request shows whose it is");
    }
}

#[tokio::test]
async fn free_requests_pass_without_a_voucher() {
    let bench = Bench::new(Answer::Whole, CAPS).await;
    let response = bench.client.get(format!("{}/v1/models", bench.url)).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), r#"{"object":"list"}"#);
    assert!(bench.gate.lane.lock().unwrap().vouchers.is_empty());
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece() {
    let bench = Bench::new(Answer::Stream, CAPS).await;
    bench.pieces.send(Bytes::from_static(b"data: one\n\n")).unwrap();
    let mut response = bench.chat().send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: one\n\n");
    // The second piece is sent only after the first has arrived: nothing is kept back.
    bench.pieces.send(Bytes::from_static(b"data: two\n\n")).unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: two\n\n");
    drop(bench.pieces);
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_the_call_down_with_it() {
    for answer in [Answer::Stream, Answer::Never] {
        let mut bench = Bench::new(answer, CAPS).await;
        bench.pieces.send(Bytes::from_static(b"data: one\n\n")).unwrap();
        let waiting = bench.chat().send();
        if answer == Answer::Stream {
            let mut response = waiting.await.unwrap();
            response.chunk().await.unwrap().unwrap();
            drop(response);
        } else {
            tokio::select! {
                answer = waiting => panic!("answered by a gateway that never does: {answer:?}"),
                () = bench.gate.reached.notified() => {}
            }
        }
        bench.dropped.take().unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn many_calls_at_once_are_all_paid_and_run_side_by_side() {
    let bench = Bench::new(Answer::Whole, CAPS).await;
    let calls = (0..24).map(|_| async { bench.chat().send().await.unwrap().status().as_u16() });
    let statuses = futures_util::future::join_all(calls).await;
    assert_eq!(statuses, [200; 24]);
    let lane = bench.gate.lane.lock().unwrap();
    assert_eq!((lane.served, lane.held), (24 * COST, 0));
    let promised = lane.vouchers.iter().max().copied().unwrap();
    assert!(promised <= 24 * WORST, "{promised} promised for 24 calls of {WORST} at most");
}

#[tokio::test]
async fn the_caps_hold_and_say_so_as_openai_clients_understand() {
    let bench = Bench::new(Answer::Whole, Caps { total_pico: 150, ..CAPS }).await;
    assert_eq!(bench.chat().send().await.unwrap().status(), 200);
    assert_eq!(bench.chat().send().await.unwrap().status(), 200);
    let third = error_of(bench.chat().send().await.unwrap()).await;
    assert_eq!(third, (402, "spending_cap_reached".into(), Some("false".into())));
    assert_eq!(bench.gate.lane.lock().unwrap().vouchers, [100, 130]);

    let small = Bench::new(Answer::Whole, Caps { call_pico: WORST - 1, ..CAPS }).await;
    let refused = error_of(small.chat().send().await.unwrap()).await;
    assert_eq!(refused, (402, "call_cap_exceeded".into(), Some("false".into())));
    assert!(small.gate.lane.lock().unwrap().vouchers.is_empty());
}

#[tokio::test]
async fn a_restarted_proxy_remembers_what_it_promised() {
    let caps = Caps { total_pico: 150, ..CAPS };
    let bench = Bench::new(Answer::Whole, caps).await;
    for _ in 0..2 {
        assert_eq!(bench.chat().send().await.unwrap().status(), 200);
    }
    let store = Store::new(bench.home.path().to_owned());
    assert_eq!(store.book(B256::repeat_byte(1)).unwrap().signed_total_pico(), 130);
    let url = start_proxy(&store, caps, &bench.upstream).await;
    let response = bench.client.post(format!("{url}/v1/chat/completions")).body("{}").send().await.unwrap();
    assert_eq!(error_of(response).await.1, "spending_cap_reached");
}

#[tokio::test]
async fn terms_that_are_not_this_channels_are_refused() {
    let other = json!(Address::repeat_byte(0xee));
    let cases = [
        ("scheme", json!("exact"), "payment_terms_rejected"),
        ("network", json!("eip155:1"), "payment_terms_rejected"),
        ("payTo", other.clone(), "payment_terms_rejected"),
        ("asset", other, "payment_terms_rejected"),
        ("channel", json!(B256::repeat_byte(2)), "payment_terms_rejected"),
        ("minExpiry", json!(u64::MAX), "payment_terms_rejected"),
        ("servedCumulative", json!("1"), "payment_implausible"),
        ("maxCumulative", json!("101"), "payment_implausible"),
        ("maxCumulative", json!("-5"), "payment_terms_rejected"),
    ];
    for (field, value, code) in cases {
        let bench = Bench::forging(Answer::Whole, CAPS, Some((field, value.clone()))).await;
        let refused = error_of(bench.chat().send().await.unwrap()).await;
        assert_eq!(refused, (402, code.into(), Some("false".into())), "{field} = {value}");
        assert!(bench.gate.lane.lock().unwrap().vouchers.is_empty(), "{field} = {value}");
    }
}

#[tokio::test]
async fn a_402_that_no_voucher_can_mend_reaches_the_client() {
    let bench = Bench::forging(Answer::Whole, CAPS, Some(("maxCumulative", json!("0")))).await;
    let response = bench.chat().send().await.unwrap();
    assert_eq!(response.headers()["x-should-retry"], "false");
    assert_eq!(response.status(), 402);
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "payment_required");
}

#[tokio::test]
async fn web_pages_and_foreign_names_cannot_spend() {
    let bench = Bench::new(Answer::Whole, CAPS).await;
    for request in
        [bench.chat().header("origin", "https://evil.example"), bench.chat().header("host", "evil.example")]
    {
        assert_eq!(error_of(request.send().await.unwrap()).await.1, "foreign_caller");
    }
    assert!(bench.gate.lane.lock().unwrap().seen.is_empty());
    assert!(check_listen("0.0.0.0:80".parse().unwrap()).unwrap_err().contains("0.0.0.0:80"));
    assert!(check_listen("[::1]:80".parse().unwrap()).is_ok());
}

#[tokio::test]
async fn a_gateway_that_is_away_is_a_502_that_may_be_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let signer = Key::generate();
    let store = Store::new(home.path().to_owned());
    store.create(&terms(signer.address()), &signer).unwrap();
    // Bound and never listening: nobody answers there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let upstream = format!("http://{}", socket.local_addr().unwrap());
    let url = start_proxy(&store, CAPS, &upstream).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(format!("{url}/v1/models")).send().await.unwrap();
    assert_eq!(error_of(response).await, (502, "upstream_unreachable".into(), None));
    assert!(Upstream::new("127.0.0.1:7410").is_err());
}
