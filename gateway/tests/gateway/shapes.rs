//! Answers of every shape: choices, calls of tools, vectors; each counted to the token.

use crate::support::{Plan, Stand, chat_body, send};
use dividend_engine::ToolFormat;
use dividend_gateway::InstantBackend;
use serde_json::json;

const TOOLS: &str =
    r#","tools":[{"type":"function","function":{"name":"add","parameters":{"type":"object"}}}]"#;

fn calling() -> Plan {
    let words =
        ["I ", "add. <tool", "_call>\n{\"name\": \"add\", ", "\"arguments\": {\"a\": 1}}", "\n</tool_call>"];
    let backend = InstantBackend::new(0, 64).saying(&words, ToolFormat::Hermes);
    Plan { backend, ..Plan::default() }
}

#[tokio::test]
async fn choices_share_a_prompt_and_are_charged_each() {
    let stand = Stand::start(Plan::default()).await;
    let reply = stand.chat(r#","n":3,"max_tokens":4"#).await.json();
    let indices: Vec<_> =
        reply["choices"].as_array().expect("choices").iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert_eq!(
        (&reply["usage"]["prompt_tokens"], &reply["usage"]["completion_tokens"]),
        (&json!(2), &json!(12))
    );
    assert_eq!(reply["usage"]["dividend"]["tokens_out"], 12);
    let streamed = stand.chat(r#","n":3,"max_tokens":4,"stream":true"#).await.events();
    let ends = streamed.iter().filter(|event| event["choices"][0]["finish_reason"].is_string()).count();
    let receipts: Vec<_> = streamed.iter().filter(|event| event.get("dividend").is_some()).collect();
    assert_eq!((ends, receipts.len()), (3, 1));
    assert_eq!(receipts[0]["dividend"]["tokens_out"], 12);
    stand.finish().await;
}

#[tokio::test]
async fn the_worst_case_of_all_choices_is_held() {
    // 2 prompt tokens at 20, and 3 × 4 tokens at 100: 1,240.
    let stand = Stand::start(Plan { credit_pico: 1_239, ..Plan::default() }).await;
    let refused = stand.chat(r#","n":3,"max_tokens":4"#).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("insufficient_quota")));
    assert_eq!(stand.chat(r#","n":2,"max_tokens":4"#).await.status, 200);
    stand.finish().await;
}

#[tokio::test]
async fn calls_of_tools_are_taken_out_of_the_text() {
    let stand = Stand::start(calling()).await;
    let choice = stand.chat(TOOLS).await.json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "I add. ");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(
        (&call["type"], &call["function"]),
        (&json!("function"), &json!({ "name": "add", "arguments": "{\"a\":1}" }))
    );
    assert!(
        call["id"].as_str().is_some_and(|id| id.starts_with("call_")) && call.get("index").is_none(),
        "{call}"
    );
    stand.finish().await;
}

#[tokio::test]
async fn calls_of_tools_are_streamed_whole() {
    let stand = Stand::start(calling()).await;
    let events = stand.chat(&format!(r#"{TOOLS},"stream":true"#)).await.events();
    let deltas = || events.iter().filter_map(|event| event.pointer("/choices/0/delta"));
    let text: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(text, "I add. ");
    let calls: Vec<_> = deltas().filter_map(|delta| delta.get("tool_calls")).collect();
    assert_eq!(
        (calls.len(), &calls[0][0]["index"], &calls[0][0]["function"]["name"]),
        (1, &json!(0), &json!("add"))
    );
    let reasons: Vec<_> =
        events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["tool_calls"]);
    stand.finish().await;
}

#[tokio::test]
async fn vectors_are_charged_by_the_prompt_alone() {
    let stand = Stand::start(Plan::default()).await;
    let body = chat_body("")
        .replace(r#""messages":[{"role":"user","content":"12345678"}]"#, r#""input":["1234","5678"]"#);
    let bearer = stand.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let reply = send(stand.api, "POST", "/v1/embeddings", &headers, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = reply.json();
    assert_eq!(answer["data"][1], json!({ "object": "embedding", "index": 1, "embedding": [1.0, 0.0] }));
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&usage["dividend"]["tokens_out"], &usage["dividend"]["charge_pico"]),
        (&json!(0), &json!("40"))
    );
    stand.finish().await;
}
