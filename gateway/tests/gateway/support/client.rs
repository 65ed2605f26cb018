//! An HTTP/1.1 client that hides nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// `error.code` of OpenAI's error body, whose four fields are all there.
    pub fn code(&self) -> String {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("not an error: {body}"));
        assert_eq!(error.len(), 4, "{body}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert!(error["type"].is_string(), "{body}");
        error["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The JSON of every event of a stream but `[DONE]`, which must be the last.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let mut events: Vec<_> = self
            .body
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").expect(event))
            .collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.body);
        events.into_iter().map(|event| serde_json::from_str(event).expect(event)).collect()
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text + body
}

/// Sends a request on a connection of its own and reads the whole answer.
pub async fn send(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut headers = headers.to_vec();
    headers.push(("connection", "close"));
    let mut wire = Wire::connect(to).await;
    wire.write(&request(method, path, &headers, body)).await;
    wire.reply().await
}

/// A connection, byte by byte.
pub struct Wire(pub TcpStream, Vec<u8>);

impl Wire {
    pub async fn connect(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.expect("a listener"), Vec::new())
    }

    pub async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("taken");
    }

    /// Reads until `needle` has come; everything that came so far.
    pub async fn until(&mut self, needle: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.1).into_owned();
            if text.contains(needle) {
                return text;
            }
            let mut piece = [0; 4_096];
            let read = self.0.read(&mut piece).await.expect("readable");
            assert!(read > 0, "the connection ended before {needle:?}: {text}");
            self.1.extend_from_slice(&piece[..read]);
        }
    }

    /// Reads to the end of the connection.
    pub async fn reply(mut self) -> Reply {
        // A reset after the answer is as good as an end.
        let _ = self.0.read_to_end(&mut self.1).await;
        let text = String::from_utf8(self.1).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
        let body = if chunked { dechunk(body) } else { body.to_owned() };
        Reply { status: status.expect("a status"), headers, body }
    }
}

fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}
