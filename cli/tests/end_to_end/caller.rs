//! A caller with a log of its own: what really reached it of each streamed call, whatever became of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::Client;

/// One call as its caller saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The call's id, from the `dividend-receipt` header.
    pub call: String,
    /// Output tokens that had been delivered when the last event came.
    pub delivered: u64,
    /// The most output tokens that one event added.
    pub largest_event: u64,
    /// The usage at the end; `None` if the answer was cut.
    pub usage: Option<Value>,
}

/// Counts events of all callers, so that a test can act in the middle of streams.
#[derive(Debug, Default)]
pub struct Progress {
    events: AtomicUsize,
    changed: Notify,
}

impl Progress {
    fn add(&self) {
        self.events.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until `count` events have reached callers since the start.
    pub async fn reach(&self, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.events.load(Ordering::SeqCst) >= count {
                return;
            }
            changed.await;
        }
    }
}

/// Makes one streamed call and notes what arrives until its end, or until the connection breaks. `None` if it broke before
/// the answer's head: then the caller knows of no call.
pub async fn stream(client: Client, max_tokens: u32, progress: Arc<Progress>) -> Option<Seen> {
    let body = json!({
        "model": "smollm2",
        "messages": [{ "role": "user", "content": "Count as far as you can: one, two, three," }],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": true,
        "stream_options": { "include_usage": true, "continuous_usage_stats": true },
    });
    let response = client.try_send(&body).await.ok()?;
    let status = response.status();
    assert!(status.is_success(), "{status}: {}", response.text().await.unwrap_or_default());
    let call = response.headers()["dividend-receipt"].to_str().unwrap().to_owned();
    let mut seen = Seen { call, ..Seen::default() };
    let mut bytes = response.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(Ok(more)) = bytes.next().await {
        buffer.extend_from_slice(&more);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            seen.note(&event);
            progress.add();
        }
    }
    Some(seen)
}

impl Seen {
    fn note(&mut self, event: &[u8]) {
        let text = std::str::from_utf8(event).expect("an event is UTF-8").trim();
        let Some(data) = text.strip_prefix("data: ").filter(|data| *data != "[DONE]") else { return };
        let chunk: Value = serde_json::from_str(data).expect("an event's data is JSON");
        let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() else { return };
        self.largest_event = self.largest_event.max(tokens - self.delivered);
        self.delivered = tokens;
        if chunk["choices"].as_array().is_some_and(Vec::is_empty) {
            self.usage = Some(chunk["usage"].clone());
        }
    }
}
