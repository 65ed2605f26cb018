//! A unix socket at which a running settler takes requests: one JSON object per line, one answer per request.
//!
//! `{"settle":{"timeout_ms":60000}}` settles everything sealed, waiting for no threshold; the answer is
//! `{"settled":{…report…}}` or `{"error":"…"}`.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::settler::Report;
use crate::{Error, Result};

/// Longest line that is read.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Connections served at once.
const MAX_CONNECTIONS: usize = 32;
/// Longest that a request may ask to wait.
const MAX_TIMEOUT: Duration = Duration::from_secs(3_600);
/// What the answer may take beyond the time asked for: the turn under way ends first.
const GRACE: Duration = Duration::from_secs(30);

/// A request to the settler's loop.
#[derive(Debug)]
pub(crate) struct Request {
    pub timeout: Duration,
    pub answer: oneshot::Sender<Answer>,
}

/// A request on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Settle { timeout_ms: u64 },
}

/// An answer on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Settled(Box<Report>),
    Error(String),
}

/// Asks the settler that listens at `socket` to settle everything sealed; `None` if none does.
///
/// # Errors
/// [`Error::Remote`] with the settler's answer, [`Error::Control`] if the connection breaks.
pub async fn ask(socket: &Path, wait: Duration) -> Result<Option<Report>> {
    let broken = |problem: String| Error::Control { path: socket.into(), problem };
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(broken(error.to_string())),
    };
    let wait = wait.min(MAX_TIMEOUT);
    let line = Line::Settle { timeout_ms: wait.as_millis() as u64 };
    let answer = timeout(wait + GRACE, exchange(stream, &line))
        .await
        .map_err(|_| {
            let waited = (wait + GRACE).as_secs();
            broken(format!("no answer within {waited} s: see the settler's log, and whether its RPC answers"))
        })?
        .map_err(|error| broken(error.to_string()))?;
    match answer {
        Answer::Settled(report) => Ok(Some(*report)),
        Answer::Error(problem) => Err(Error::Remote(problem)),
    }
}

async fn exchange(mut stream: UnixStream, line: &Line) -> std::io::Result<Answer> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE_BYTES)).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

/// The bound socket; unbound and removed when dropped.
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds the socket, for this user only. Called with the ledger locked, so a file in its place is a dead process's.
    pub fn bind(path: &Path) -> Result<Self> {
        let broken = |error: std::io::Error| Error::Control { path: path.into(), problem: error.to_string() };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(broken(error)),
            _ => (),
        }
        let socket = UnixListener::bind(path).map_err(broken)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(broken)?;
        Ok(Self { socket, path: path.into() })
    }

    /// Passes requests on until the receiver is gone.
    pub async fn serve(&self, requests: mpsc::Sender<Request>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = requests.closed() => return,
                Some(_) = connections.join_next() => (),
                accepted = self.socket.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => { connections.spawn(converse(stream, requests.clone())); }
                    Err(error) => tracing::warn!(%error, "control socket"),
                },
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If the file is gone already there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Request>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(MAX_LINE_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str(&line) {
            Ok(Line::Settle { timeout_ms }) => settle(timeout_ms, &requests).await,
            Err(error) => Answer::Error(format!("expected {{\"settle\":{{\"timeout_ms\":N}}}}: {error}")),
        };
        let Ok(mut text) = serde_json::to_vec(&answer) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
        }
    }
}

async fn settle(timeout_ms: u64, requests: &mpsc::Sender<Request>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let wait = Duration::from_millis(timeout_ms).min(MAX_TIMEOUT);
    match requests.try_send(Request { timeout: wait, answer }) {
        Ok(()) => answered.await.unwrap_or_else(|_| Answer::Error("the settler is stopping".into())),
        Err(_) => Answer::Error("the settler has too many requests waiting; ask again".into()),
    }
}
