//! Where calls go and what they ask.

use std::fmt;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;

/// Everyday words of one token each in the common vocabularies: prompts are made of them.
const WORDS: [&str; 16] = [
    "the", "river", "runs", "down", "to", "the", "sea", "and", "all", "who", "work", "on", "it", "share",
    "its", "gold",
];

/// An HTTP endpoint, reached without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, for the socket and the `host` header.
    pub authority: String,
    /// Path of the chat completions.
    pub path: String,
}

impl Target {
    /// Reads a base URL as OpenAI clients take it, with or without `/v1`'s trailing slash.
    ///
    /// # Errors
    /// Anything but `http://host[:port][/path]`.
    pub fn parse(base_url: &str) -> anyhow::Result<Self> {
        let uri: Uri = base_url.parse().with_context(|| format!("{base_url:?} is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                bail!("{base_url:?} needs TLS, which would be measured too; give the http:// address")
            }
            _ => bail!("{base_url:?} has no scheme; write it as http://127.0.0.1:7410/v1"),
        }
        let authority = uri.authority().context("the URL names no host")?;
        ensure!(!authority.as_str().contains('@'), "give credentials with --key-file, not in the URL");
        ensure!(uri.query().is_none(), "{base_url:?} has a query; give the base URL only");
        let port = authority.port_u16().unwrap_or(80);
        let path = format!("{}/chat/completions", uri.path().trim_end_matches('/'));
        Ok(Self { authority: format!("{}:{port}", authority.host()), path })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// What every call of a run asks.
#[derive(Clone)]
pub struct Call {
    /// The `model` field.
    pub model: String,
    /// Length of the user message in words.
    pub prompt_words: usize,
    /// The `max_tokens` field.
    pub max_tokens: u32,
    /// Whether the answer is streamed as server-sent events.
    pub stream: bool,
    /// API key for the `authorization` header.
    pub key: Option<String>,
}

impl Call {
    /// The request, built once and cloned per call.
    ///
    /// # Errors
    /// A key that cannot stand in a header.
    pub fn request(&self, target: &Target) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(target.path.as_str())
            .header(header::HOST, &target.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.body()))
            .context("building the request")?;
        if let Some(key) = &self.key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .ok()
                .context("the API key holds characters that no header can carry")?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn body(&self) -> Bytes {
        let prompt: Vec<&str> = WORDS.iter().copied().cycle().take(self.prompt_words.max(1)).collect();
        let mut body = serde_json::json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": prompt.join(" ") }],
            "max_tokens": self.max_tokens,
            "stream": self.stream,
        });
        if self.stream {
            body["stream_options"] = serde_json::json!({ "include_usage": true });
        }
        Bytes::from(body.to_string())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.stream { "streamed" } else { "in one body" };
        write!(
            f,
            "model {}, prompt of {} words, up to {} tokens {form}",
            self.model, self.prompt_words, self.max_tokens
        )
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn base_urls_as_openai_clients_take_them() {
        for url in ["http://127.0.0.1:7410/v1", "http://127.0.0.1:7410/v1/"] {
            assert_eq!(Target::parse(url).unwrap().to_string(), "http://127.0.0.1:7410/v1/chat/completions");
        }
        assert_eq!(Target::parse("http://gate").unwrap().authority, "gate:80");
    }

    #[test]
    fn other_urls_are_refused() {
        for url in
            ["https://gate/v1", "gate/v1", "ftp://gate", "http://user:pw@gate/v1", "http://gate/v1?x=1", ""]
        {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn the_request_asks_what_the_call_says_and_hides_its_key() {
        let target = Target::parse("http://gate:9/v1").unwrap();
        let call = Call {
            model: "m\"x".into(),
            prompt_words: 20,
            max_tokens: 5,
            stream: true,
            key: Some("dk-secret".into()),
        };
        assert!(!format!("{call:?}").contains("secret"));
        let request = call.request(&target).unwrap();
        assert!(!format!("{request:?}").contains("secret"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["model"], "m\"x");
        assert_eq!(body["messages"][0]["content"].as_str().unwrap().split(' ').count(), 20);
        assert_eq!(body["stream_options"]["include_usage"], true);
        let bad = Call { key: Some("a\nb".into()), ..call };
        assert!(bad.request(&target).is_err());
    }
}
