//! Server-sent events of a chat completion, as they arrive in pieces.

use serde::Deserialize;

/// Longest line that is kept; a server that sends more is not speaking this protocol.
const MAX_LINE_BYTES: usize = 1 << 20;

/// What one event means to a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A delta that carries text.
    Text,
    /// The usage of the call.
    Usage(Usage),
    /// The role, a finish reason, or anything else without text.
    Other,
    /// `data: [DONE]`.
    Done,
    /// An `error` object in the middle of the stream, or data that is not JSON.
    Error,
}

/// Token counts as the server states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens generated.
    #[serde(default)]
    pub completion_tokens: u64,
}

/// Splits bytes into events; a line may be spread over any number of reads.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Vec<u8>,
}

impl Decoder {
    /// Feeds one read and calls `on_event` for every event completed by it.
    ///
    /// # Errors
    /// [`LineTooLong`] for a line above one MiB.
    pub fn feed(&mut self, mut bytes: &[u8], mut on_event: impl FnMut(Event)) -> Result<(), LineTooLong> {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let line = &bytes[..end];
            if self.partial.is_empty() {
                line_event(line).map(&mut on_event);
            } else {
                self.partial.extend_from_slice(line);
                line_event(&self.partial).map(&mut on_event);
                self.partial.clear();
            }
            bytes = &bytes[end + 1..];
        }
        if self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            return Err(LineTooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// A line that never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

fn line_event(line: &[u8]) -> Option<Event> {
    let data = line.strip_prefix(b"data:")?.trim_ascii();
    if data == b"[DONE]" {
        return Some(Event::Done);
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else { return Some(Event::Error) };
    Some(match chunk {
        Chunk { error: Some(_), .. } => Event::Error,
        Chunk { usage: Some(usage), .. } => Event::Usage(usage),
        Chunk { choices, .. } if choices.iter().any(Choice::has_text) => Event::Text,
        _ => Event::Other,
    })
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

impl Choice {
    fn has_text(&self) -> bool {
        let content = self.delta.as_ref().and_then(|delta| delta.content.as_deref());
        content.is_some_and(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        ": keep-alive\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hé\"}}]}\r\n\r\n",
        "data:{\"choices\":[{\"delta\":{\"content\":\" there\"}}]}\n\n",
        "event: x\nid: 7\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    );

    fn events(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<Event> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(&piece, |event| events.push(event)).unwrap();
        }
        events
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let usage = Event::Usage(Usage { prompt_tokens: 3, completion_tokens: 2 });
        let expected = [Event::Other, Event::Text, Event::Text, Event::Other, usage, Event::Done];
        for size in [1, 2, 3, 7, 64, STREAM.len()] {
            assert_eq!(
                events(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)),
                expected,
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn errors_and_rubbish_are_told_apart_from_text() {
        let of = |text: &str| events(std::iter::once(text.as_bytes().to_vec()));
        assert_eq!(of("data: {\"error\":{\"message\":\"engine\"}}\n\n"), [Event::Error]);
        assert_eq!(of("data: {\"choices\":\n\n"), [Event::Error]);
    }

    #[test]
    fn an_endless_line_is_refused_in_bounded_memory() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; 1 << 16];
        let outcome = (0..64).try_for_each(|_| decoder.feed(&piece, |_| {}));
        assert_eq!(outcome, Err(LineTooLong));
        assert!(decoder.partial.len() <= MAX_LINE_BYTES);
    }
}
