//! What an application meets at the API.

use serde_json::{Value, json};

use crate::support::Stack;
use crate::support::client::{Client, question};

/// A request, and what its answer must say.
struct Row {
    name: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// The field that is wrong.
    param: Option<&'static str>,
    /// What the message must name: the value, or the limit.
    words: &'static str,
}

pub async fn are_refused(stack: &Stack, client: &Client) {
    for row in table() {
        let answer = client.post(row.body, &[]).await;
        assert_error(row.name, answer, row.status, row.code, row.param, row.words).await;
    }
    let wrong = Client::with(stack, "sk-dvd-00000000000000000000000000000000");
    let answer = wrong.send(&question("smollm2", 1)).await;
    assert_error("a wrong key", answer, 401, "invalid_api_key", None, "0000").await;
}

fn table() -> Vec<Row> {
    let with = |name: &str, value: Value| {
        let mut body = question("smollm2", 4);
        body[name] = value;
        body.to_string().into_bytes()
    };
    let text = |text: &str| text.as_bytes().to_vec();
    let row = |name, body, code, param, words| Row { name, body, status: 400, code, param, words };
    let long = "word ".repeat(4_000);
    let large = "x".repeat(2 << 20);
    vec![
        row("no JSON", text("{\"model\":"), "malformed_json", None, "JSON"),
        row("no UTF-8", b"{\"model\":\"\xff\xfe\"}".to_vec(), "malformed_json", None, "JSON"),
        row("a list for an object", text("[]"), "invalid_value", None, ""),
        row("NaN", text("{\"temperature\": NaN}"), "malformed_json", None, "JSON"),
        row("NaN as text", with("temperature", json!("NaN")), "invalid_value", Some("temperature"), "NaN"),
        row("a number beyond all", text("{\"temperature\": 1e999}"), "malformed_json", None, "JSON"),
        row(
            "a cold temperature",
            with("temperature", json!(-0.1)),
            "invalid_value",
            Some("temperature"),
            "-0.1",
        ),
        row(
            "a hot temperature",
            with("temperature", json!(2.1)),
            "invalid_value",
            Some("temperature"),
            "2.1",
        ),
        row("an empty nucleus", with("top_p", json!(0)), "invalid_value", Some("top_p"), "0"),
        row("more than all", with("top_p", json!(1.5)), "invalid_value", Some("top_p"), "1.5"),
        row("no tokens", with("max_tokens", json!(0)), "invalid_value", Some("max_tokens"), "0"),
        row("negative tokens", with("max_tokens", json!(-1)), "invalid_value", Some("max_tokens"), "-1"),
        row(
            "tokens beyond the context",
            with("max_tokens", json!(9_999)),
            "context_length_exceeded",
            Some("messages"),
            "9999",
        ),
        row(
            "a prompt beyond the context",
            with("messages", json!([{ "role": "user", "content": long }])),
            "context_length_exceeded",
            Some("messages"),
            "2048",
        ),
        row("no messages", with("messages", json!([])), "invalid_value", Some("messages"), ""),
        row(
            "an unknown parameter",
            with("tempratur", json!(1)),
            "invalid_value",
            Some("tempratur"),
            "tempratur",
        ),
        Row {
            status: 404,
            ..row(
                "an unknown model",
                with("model", json!("gpt-9")),
                "model_not_found",
                Some("model"),
                "gpt-9",
            )
        },
        Row {
            status: 413,
            ..row("a large body", with("user", json!(large)), "request_too_large", None, "1048576")
        },
    ]
}

/// The answer is OpenAI's error body, with the status and the words that it should have.
pub async fn assert_error(
    name: &str,
    answer: reqwest::Response,
    status: u16,
    code: &str,
    param: Option<&str>,
    words: &str,
) {
    let found = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_else(|error| panic!("{name}: no JSON body: {error}"));
    let error = &body["error"];
    assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{name}: {body}");
    assert_eq!(error["param"].as_str(), param, "{name}: {body}");
    assert!(error["type"].as_str().is_some_and(|kind| !kind.is_empty()), "{name}: {body}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{name}: {body}");
}
