//! The generator against a small server whose delays and answers are known.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dividend_loadtest::arrivals::Arrivals;
use dividend_loadtest::plan::{Load, Plan};
use dividend_loadtest::report::Report;
use dividend_loadtest::run::run;
use dividend_loadtest::target::{Call, Target};
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Behaviour of the server under test.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Answers at once in the form asked for.
    Instant,
    /// Works on one call at a time, this long.
    OneAtATime(Duration),
    /// Answers this status.
    Status(u16),
    /// Ends streams before `[DONE]`.
    Truncate,
    /// Sends an error in the middle of streams.
    FailInStream,
    /// Never answers.
    Hang,
    /// Closes the connection after each answer.
    CloseEach,
}

struct Server {
    address: String,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let turn = Arc::new(Semaphore::new(1));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let turn = turn.clone();
                let service = service_fn(move |request| answer(request, behaviour, turn.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { address, connections, task }
    }
}

async fn answer(
    request: Request<Incoming>,
    behaviour: Behaviour,
    turn: Arc<Semaphore>,
) -> Result<Response<Body>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["model"], "smollm2");
    if let Behaviour::OneAtATime(time) = behaviour {
        let _turn = turn.acquire().await.unwrap();
        tokio::time::sleep(time).await;
    }
    if matches!(behaviour, Behaviour::Hang) {
        std::future::pending::<()>().await;
    }
    let mut response = if body["stream"] == true { stream(behaviour) } else { whole() };
    if let Behaviour::Status(status) = behaviour {
        *response.status_mut() = status.try_into().unwrap();
    }
    if matches!(behaviour, Behaviour::CloseEach) {
        response.headers_mut().insert("connection", "close".parse().unwrap());
    }
    Ok(response)
}

fn whole() -> Response<Body> {
    let json =
        r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":4}}"#;
    Response::new(Full::from(json).boxed_unsync())
}

fn stream(behaviour: Behaviour) -> Response<Body> {
    let text = |t: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{t}\"}}}}]}}\n\n");
    let mut events = vec![text("a"), text("b"), text("c")];
    if matches!(behaviour, Behaviour::FailInStream) {
        events.push("data: {\"error\":{\"message\":\"engine stopped\"}}\n\n".into());
    }
    if !matches!(behaviour, Behaviour::Truncate) {
        events.push(
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n"
                .into(),
        );
    }
    let frames = futures_util::stream::iter(events).map(|event| Ok(Frame::data(Bytes::from(event))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn plan(server: &Server, load: Load, stream: bool) -> Plan {
    Plan {
        target: Target::parse(&format!("http://{}/v1", server.address)).unwrap(),
        call: Call { model: "smollm2".into(), prompt_words: 4, max_tokens: 3, stream, key: None },
        load,
        duration: Duration::from_millis(500),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(10),
    }
}

fn open(rate: f64, concurrency: u32) -> Load {
    Load::Open { arrivals: Arrivals::fixed(rate), concurrency }
}

async fn report(behaviour: Behaviour, load: Load, stream: bool) -> Report {
    let server = Server::start(behaviour).await;
    run(plan(&server, load, stream)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_schedule_is_sent_and_its_tokens_counted() {
    let whole = report(Behaviour::Instant, open(200.0, 64), false).await;
    assert_eq!((whole.calls.sent, whole.calls.ok, whole.calls.unsent), (100, 100, 0));
    assert_eq!((whole.tokens.prompt, whole.tokens.completion), (700, 400));
    assert!(whole.latency_us.first_token.is_none());

    let streamed = report(Behaviour::Instant, open(200.0, 64), true).await;
    assert_eq!((streamed.calls.ok, streamed.tokens.completion), (100, 300));
    assert_eq!(streamed.latency_us.first_token.as_ref().unwrap().count, 100);
    assert_eq!(streamed.latency_us.inter_token.as_ref().unwrap().count, 200);
    assert_eq!(streamed.statuses["200"], 100);
}

/// 100 calls/s for half a second into a server that does one per 20 ms: the queue grows, and the last call served
/// waits about as long as the whole backlog. A generator that measured from the actual start would show 20 ms to all.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_shows_in_the_tail_also_behind_a_cap() {
    let slow = Behaviour::OneAtATime(Duration::from_millis(20));
    let capped = report(slow, open(100.0, 1), false).await;
    let total = capped.latency_us.total.as_ref().unwrap();
    assert!(capped.calls.held > 0 && capped.calls.unsent > 0, "{capped}");
    assert!(total.max > 150_000, "coordinated omission: the longest call shows {} µs", total.max);
    assert!(!capped.generator.kept_up);
    assert!(capped.generator.problems[0].contains("--concurrency"), "{capped}");

    let uncapped = report(slow, open(100.0, 64), false).await;
    assert_eq!((uncapped.calls.ok, uncapped.calls.unsent), (50, 0));
    assert!(uncapped.latency_us.total.as_ref().unwrap().max > 400_000, "{uncapped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_closed_loop_keeps_each_caller_busy_on_its_own_connection() {
    let server = Server::start(Behaviour::Instant).await;
    let report = run(plan(&server, Load::Closed { callers: 3 }, false)).await.unwrap();
    assert!(report.calls.ok > 50, "{report}");
    assert_eq!(report.calls.failed, 0, "{report}");
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
    assert!(report.rate_planned.is_none() && report.generator.start_lag_us.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart() {
    let cases = [
        (Behaviour::Status(429), false, "429"),
        (Behaviour::Truncate, true, "stream truncated"),
        (Behaviour::FailInStream, true, "error in stream"),
        (Behaviour::Hang, false, "timed out"),
    ];
    for (behaviour, stream, label) in cases {
        let server = Server::start(behaviour).await;
        let mut plan = plan(&server, open(20.0, 64), stream);
        if matches!(behaviour, Behaviour::Hang) {
            plan.timeout = Duration::from_millis(50);
        }
        let report = run(plan).await.unwrap();
        assert_eq!((report.calls.ok, report.statuses.get(label)), (0, Some(&10)), "{label}: {report}");
        assert!(report.latency_us.total.is_none(), "{label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_closes_cost_no_call() {
    let report = report(Behaviour::CloseEach, open(100.0, 8), false).await;
    assert_eq!((report.calls.ok, report.calls.failed), (50, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_server_is_reported_not_raised() {
    let server = Server::start(Behaviour::Instant).await;
    let plan = plan(&server, open(20.0, 4), false);
    let address = server.address.clone();
    drop(server);
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let report = run(plan).await.unwrap();
    assert_eq!(report.statuses.get("no connection"), Some(&10), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_up_calls_are_sent_but_not_counted() {
    let server = Server::start(Behaviour::Instant).await;
    let mut plan = plan(&server, open(100.0, 8), false);
    plan.warmup = Duration::from_millis(300);
    let report = run(plan).await.unwrap();
    assert_eq!(report.calls.sent, 20, "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["calls"]["ok"], 20);
    assert_eq!(json["mode"], "open");
}
