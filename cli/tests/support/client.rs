//! An application of a stack: its calls, and what the stack wrote down about them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Stack, run, within};

/// A client of a stack's API.
pub struct Client {
    http: reqwest::Client,
    api: String,
    key: String,
}

impl Client {
    pub fn with(stack: &Stack, key: &str) -> Self {
        // The tests of one process share it; the first one installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        Self { http, api: stack.endpoint("api"), key: key.to_owned() }
    }

    pub fn with_demo_key(stack: &Stack) -> Self {
        let file = stack.endpoint("demo_key_file");
        Self::with(stack, std::fs::read_to_string(file).unwrap().trim())
    }

    pub async fn send(&self, body: &Value) -> reqwest::Response {
        self.try_send(body).await.unwrap()
    }

    /// As `send`, for a server that may be killed meanwhile.
    pub async fn try_send(&self, body: &Value) -> reqwest::Result<reqwest::Response> {
        let request = self.http.post(format!("{}/v1/chat/completions", self.api)).bearer_auth(&self.key);
        request.json(body).send().await
    }

    /// Posts the very bytes to the chat route, with further headers.
    pub async fn post(&self, body: Vec<u8>, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = self.http.post(format!("{}/v1/chat/completions", self.api)).bearer_auth(&self.key);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    }

    /// What the key has and has used.
    pub async fn credits(&self) -> Value {
        let url = format!("{}/v1/credits", self.api);
        self.http.get(url).bearer_auth(&self.key).send().await.unwrap().json().await.unwrap()
    }

    pub async fn chat(&self, model: &str, max_tokens: u32) -> (u16, Value) {
        let answer = self.send(&question(model, max_tokens)).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until calls are served.
    pub async fn until_ready(&self) {
        self.until_success(&format!("{}/readyz", self.api)).await;
    }

    /// Waits until `url` answers with success.
    pub async fn until_success(&self, url: &str) {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        let succeeds = async || {
            let answer = self.http.get(url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        within(&format!("{url} to answer"), async {
            while !succeeds().await {
                look.tick().await;
            }
        })
        .await;
    }

    /// What `/v1/models` says of one.
    pub async fn model(&self, name: &str) -> Value {
        let url = format!("{}/v1/models/{name}", self.api);
        self.http.get(url).bearer_auth(&self.key).send().await.unwrap().json().await.unwrap()
    }

    pub async fn models(&self) -> Vec<String> {
        let answer =
            self.http.get(format!("{}/v1/models", self.api)).bearer_auth(&self.key).send().await.unwrap();
        let models: Value = answer.json().await.unwrap();
        models["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub fn question(model: &str, max_tokens: u32) -> Value {
    json!({
        "model": model, "max_tokens": max_tokens, "temperature": 0,
        "messages": [{ "role": "user", "content": "Say hello." }],
    })
}

/// Every record of the stack's journal.
pub async fn journal(stack: &Stack) -> Vec<Value> {
    let output = run(stack.home(), ["journal", "export", "--format", "jsonl"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
