//! What the gateway costs: everything on (key, limits, budget, queue, journal, signed receipt, metrics) over a backend
//! that answers at once, against a bare hyper server that sends the same bytes, in the same run.
//!
//! Server and generator each have one thread. Rounds alternate, so that a noisy minute hits both. Prints one JSON object:
//! requests per second and p99 at saturation with 16 connections, p50 with one, and CPU time of all threads but the
//! generator's, per request.
//!
//! `cargo run -p dividend-gateway --example overhead [-- ROUNDS SECONDS]`

#[path = "../tests/gateway/support/world.rs"]
#[expect(dead_code, reason = "the bench needs a part of the tests' world")]
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dividend_chain::Address;
use dividend_gateway::keys::KeyRecord;
use dividend_gateway::{Backends, Clock, Gateway, InstantBackend, Keys, Listeners, Parts, Settings, serve};
use dividend_meter::{Meter, MeterOptions, Operator, SystemClock};
use dividend_registry::{EscrowView, Snapshot};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

const TOKENS: u32 = 64;
const BUSY_CONNECTIONS: usize = 16;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let (address, key) = start_gateway(dir.path().to_owned())?;
    let generator = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = serde_json::Map::new();
    for (name, stream) in [("json", false), ("sse_64_tokens", true)] {
        let request = request(&key, stream);
        let sample = generator.block_on(one_answer(address, &request))?;
        let bare = start_bare(sample)?;
        let plan = Plan { rounds, length: Duration::from_secs_f64(seconds), request };
        report.insert(name.to_owned(), generator.block_on(compare(&plan, address, bare))?);
    }
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// The gateway on a thread of its own, which ends with the process.
fn start_gateway(dir: std::path::PathBuf) -> Result<(SocketAddr, String), Failure> {
    let mut file = dividend_config::Settings::default();
    file.gateway.listen.set_port(0);
    file.gateway.admin_listen.set_port(0);
    file.limits.requests_per_minute = 1_000_000_000;
    file.limits.tokens_per_minute = 1_000_000_000_000;
    file.limits.concurrency = 1_024;
    let settings = Settings::from(&file);
    let operator = Operator { key: world::operator_key(), deployment: world::DEPLOYMENT };
    let (meter, _) =
        Meter::open(&dir.join("journal"), MeterOptions::default(), operator, Arc::new(SystemClock))?;
    let keys = Keys::open(&dir.join("keys.redb"), settings.limits)?;
    let (secret, _) = keys.create(KeyRecord::new("bench", 0, u128::MAX / 2))?;
    let backends = Arc::new(Backends::new());
    backends.insert(world::MODEL, Arc::new(InstantBackend::new(TOKENS, 4_096)));
    let (models, tracks) = (world::models(), world::tracks());
    let snapshot =
        Snapshot::fixture(world::block(), Instant::now(), models, tracks, Vec::new(), EscrowView::default());
    let (sender, snapshots) = watch::channel(Arc::new(snapshot));
    let parts = Parts {
        settings: settings.clone(),
        clock: Clock::system(),
        meter,
        snapshots,
        backends,
        keys: Arc::new(keys),
        operator: world::operator_key().address(),
        asset: Address::ZERO,
        admin_token: world::TOKEN.to_owned(),
    };
    let address = on_a_thread(move |told| async move {
        let _sender = sender;
        let listeners = Listeners::bind(&settings).await?;
        told.send(listeners.api())?;
        serve(Gateway::new(parts)?, listeners, std::future::pending()).await?;
        Ok(())
    })?;
    Ok((address, secret.reveal().to_owned()))
}

/// A hyper server that reads each body and sends `answer`.
fn start_bare(answer: Bytes) -> Result<SocketAddr, Failure> {
    on_a_thread(move |told| async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        told.send(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(answer)))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    })
}

type Told = std::sync::mpsc::Sender<SocketAddr>;

fn on_a_thread<F, R>(server: F) -> Result<SocketAddr, Failure>
where
    F: FnOnce(Told) -> R + Send + 'static,
    R: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if let Err(error) = runtime.block_on(server(told)) {
            eprintln!("a server ended: {error}");
        }
    });
    Ok(address.recv()?)
}

fn request(key: &str, stream: bool) -> Bytes {
    let content = "x".repeat(1_024);
    let body = json!({
        "model": world::TRACK, "stream": stream, "max_tokens": TOKENS,
        "messages": [{ "role": "user", "content": content }],
    })
    .to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Bytes::from(head + &body)
}

struct Plan {
    rounds: usize,
    length: Duration,
    request: Bytes,
}

/// One side's figures of one round.
struct Figures {
    rps: f64,
    p99_us: f64,
    cpu_us: f64,
    alone_p50_us: f64,
}

async fn compare(plan: &Plan, gateway: SocketAddr, bare: SocketAddr) -> Result<Value, Failure> {
    let (mut of_gateway, mut of_bare) = (Vec::new(), Vec::new());
    for round in 0..=plan.rounds {
        for side in [round % 2, 1 - round % 2] {
            let figures = measure(plan, if side == 0 { gateway } else { bare }).await?;
            // The first round warms up.
            if round > 0 {
                if side == 0 { &mut of_gateway } else { &mut of_bare }.push(figures);
            }
        }
    }
    let ratio = median(&of_gateway, |f| f.rps) / median(&of_bare, |f| f.rps);
    Ok(
        json!({ "gateway": shown(&of_gateway), "bare_hyper": shown(&of_bare), "rps_ratio": rounded(ratio, 1_000.0) }),
    )
}

fn shown(rounds: &[Figures]) -> Value {
    json!({
        "rps": rounded(median(rounds, |f| f.rps), 1.0),
        "p99_us_at_saturation": rounded(median(rounds, |f| f.p99_us), 1.0),
        "cpu_us_per_request": rounded(median(rounds, |f| f.cpu_us), 10.0),
        "p50_us_one_connection": rounded(median(rounds, |f| f.alone_p50_us), 1.0),
    })
}

fn median(rounds: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(value: f64, per_unit: f64) -> f64 {
    (value * per_unit).round() / per_unit
}

async fn measure(plan: &Plan, to: SocketAddr) -> Result<Figures, Failure> {
    let mut alone = drive(plan, to, 1).await?;
    let cpu_before = cpu_of_others()?;
    let began = Instant::now();
    let mut busy = drive(plan, to, BUSY_CONNECTIONS).await?;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_of_others()?.saturating_sub(cpu_before);
    let requests = busy.len() as f64;
    Ok(Figures {
        rps: requests / elapsed,
        p99_us: percentile(&mut busy, 0.99),
        cpu_us: cpu.as_secs_f64() * 1e6 / requests,
        alone_p50_us: percentile(&mut alone, 0.5),
    })
}

fn percentile(latencies: &mut [Duration], part: f64) -> f64 {
    latencies.sort();
    let index = ((latencies.len() as f64 * part) as usize).min(latencies.len().saturating_sub(1));
    latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}

/// Closed loops over `connections`, for the plan's length; every latency.
async fn drive(plan: &Plan, to: SocketAddr, connections: usize) -> Result<Vec<Duration>, Failure> {
    let until = Instant::now() + plan.length;
    let loops: Vec<_> = (0..connections)
        .map(|_| {
            let request = plan.request.clone();
            tokio::spawn(async move {
                let mut connection = Connection::open(to).await?;
                let mut latencies = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    connection.call(&request).await?;
                    latencies.push(began.elapsed());
                }
                Ok::<_, Failure>(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for one in loops {
        all.extend(one.await??);
    }
    Ok(all)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(to: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and reads its answer to the end; the head's length.
    async fn call(&mut self, request: &[u8]) -> Result<usize, Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(head) = complete(&self.buffer)? {
                return Ok(head);
            }
        }
    }
}

/// The length of the head if the answer is all there.
fn complete(buffer: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&buffer[..end])?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("not a 200: {}", String::from_utf8_lossy(buffer)).into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let whole = match length {
        Some(length) => buffer.len() >= end + 4 + length.parse::<usize>()?,
        None => buffer.ends_with(b"0\r\n\r\n"),
    };
    Ok(whole.then_some(end + 4))
}

/// The body of one answer, for the bare server to repeat.
async fn one_answer(from: SocketAddr, request: &[u8]) -> Result<Bytes, Failure> {
    let mut connection = Connection::open(from).await?;
    let head = connection.call(request).await?;
    Ok(Bytes::copy_from_slice(&connection.buffer[head..]))
}

/// CPU time of every thread of this process but the calling one.
fn cpu_of_others() -> Result<Duration, Failure> {
    let own = std::fs::read_link("/proc/thread-self")?;
    let own = own.file_name().ok_or("no thread id")?.to_owned();
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if thread.file_name() == own {
            continue;
        }
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}
