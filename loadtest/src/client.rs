//! A keep-alive HTTP/1.1 client that times what it reads.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::sse::{Decoder, Event, Usage};
use crate::target::Target;

/// A non-streamed answer above this is read but no longer kept.
const MAX_BODY_BYTES: usize = 16 << 20;

/// How one call ended.
#[derive(Debug)]
pub struct Answer {
    /// Success, a status, or what broke.
    pub outcome: Outcome,
    /// Moments of the text-bearing events of a stream.
    pub text_at: Vec<Instant>,
    /// Usage as the server states it; tokens of a stream without one are counted by events.
    pub usage: Usage,
    /// When the last byte was read, or the call given up.
    pub ended: Instant,
}

/// The kinds of ends that a report counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// 2xx with a whole body, and for a stream its `[DONE]`.
    Ok(StatusCode),
    /// Any other status.
    Refused(StatusCode),
    /// No connection.
    Connect,
    /// The connection broke before the last byte.
    Broken,
    /// The stream ended without `[DONE]`.
    Truncated,
    /// An error in the middle of a stream.
    StreamError,
    /// Not a chat completion.
    Malformed,
    /// The time allowed for a call ran out.
    TimedOut,
}

impl Outcome {
    /// Whether the call got what it asked for.
    pub fn is_ok(self) -> bool {
        matches!(self, Self::Ok(_))
    }

    /// The name that a report counts it under.
    pub fn label(self) -> String {
        match self {
            Self::Ok(status) | Self::Refused(status) => status.as_u16().to_string(),
            Self::Connect => "no connection".into(),
            Self::Broken => "connection broken".into(),
            Self::Truncated => "stream truncated".into(),
            Self::StreamError => "error in stream".into(),
            Self::Malformed => "malformed answer".into(),
            Self::TimedOut => "timed out".into(),
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// Connections to one target. As many are opened as calls are in flight; idle ones are used again, newest first.
#[derive(Debug)]
pub struct Client {
    target: Target,
    stream: bool,
    idle: Mutex<Vec<Sender>>,
}

impl Client {
    /// A client without connections yet. `stream` says which kind of answer to expect.
    pub fn new(target: Target, stream: bool) -> Self {
        Self { target, stream, idle: Mutex::default() }
    }

    /// Sends a request and reads its answer to the end, or until `timeout` after now.
    pub async fn call(&self, request: Request<Full<Bytes>>, timeout: Duration) -> Answer {
        let mut reading = Reading::default();
        let outcome = match tokio::time::timeout(timeout, self.exchange(request, &mut reading)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::TimedOut,
        };
        let text_events = reading.text_at.len() as u64;
        let mut usage = reading.usage.unwrap_or_default();
        if reading.usage.is_none() {
            usage.completion_tokens = text_events;
        }
        Answer { outcome, text_at: reading.text_at, usage, ended: Instant::now() }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        reading: &mut Reading,
    ) -> Result<Outcome, Outcome> {
        let (sender, response) = self.send(request).await?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            drain(body).await?;
            self.give_back(sender);
            return Ok(Outcome::Refused(parts.status));
        }
        let outcome =
            if self.stream { read_stream(body, reading).await? } else { read_whole(body, reading).await? };
        self.give_back(sender);
        Ok(outcome.unwrap_or(Outcome::Ok(parts.status)))
    }

    /// Sends on an idle connection, or on a fresh one if the server has meanwhile closed the idle one: a request that
    /// was never written is not the server's failure.
    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Sender, http::Response<Incoming>), Outcome> {
        let mut request = request;
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((sender, response)),
                Err(mut unsent) => request = unsent.take_message().ok_or(Outcome::Broken)?,
            }
        }
        let mut sender = self.connect().await.ok_or(Outcome::Connect)?;
        let response = sender.send_request(request).await.map_err(|_| Outcome::Broken)?;
        Ok((sender, response))
    }

    async fn connect(&self) -> Option<Sender> {
        let socket = TcpStream::connect(&self.target.authority).await.ok()?;
        socket.set_nodelay(true).ok()?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await.ok()?;
        // Ends by itself when the sender is dropped or the server hangs up.
        tokio::spawn(connection);
        Some(sender)
    }

    fn take_idle(&self) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, sender: Sender) {
        if !sender.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }
}

/// What has been read of an answer so far; survives a timeout.
#[derive(Default)]
struct Reading {
    text_at: Vec<Instant>,
    usage: Option<Usage>,
}

/// Reads a stream to its end; `Some` is a failure that leaves the connection usable.
async fn read_stream(mut body: Incoming, reading: &mut Reading) -> Result<Option<Outcome>, Outcome> {
    let mut decoder = Decoder::default();
    let mut done = false;
    let mut failed = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Outcome::Broken)?;
        let Some(bytes) = frame.data_ref() else { continue };
        let now = Instant::now();
        let fed = decoder.feed(bytes, |event| match event {
            Event::Text => reading.text_at.push(now),
            Event::Usage(usage) => reading.usage = Some(usage),
            Event::Done => done = true,
            Event::Error => failed = true,
            Event::Other => {}
        });
        fed.map_err(|_| Outcome::Malformed)?;
    }
    Ok(if failed {
        Some(Outcome::StreamError)
    } else if done {
        None
    } else {
        Some(Outcome::Truncated)
    })
}

async fn read_whole(mut body: Incoming, reading: &mut Reading) -> Result<Option<Outcome>, Outcome> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Outcome::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(Outcome::Malformed);
        }
        bytes.extend_from_slice(data);
    }
    let Ok(completion) = serde_json::from_slice::<Completion>(&bytes) else {
        return Ok(Some(Outcome::Malformed));
    };
    reading.usage = completion.usage;
    Ok(None)
}

async fn drain(mut body: Incoming) -> Result<(), Outcome> {
    while let Some(frame) = body.frame().await {
        frame.map_err(|_| Outcome::Broken)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Completion {
    #[serde(rename = "choices")]
    _choices: Vec<serde::de::IgnoredAny>,
    usage: Option<Usage>,
}
