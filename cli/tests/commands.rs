//! The whole stack: a call by the demo key is answered, metered, audited; keys and limits change while it serves; a fork
//! that is registered is served without a restart; a call in flight is finished before the stack ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::{Client, journal, question};
use support::{Stack, cast_rpc, model_file, run, within};

#[tokio::test]
async fn a_call_is_answered_metered_sealed_and_audited() {
    let stack = Stack::start().await;
    let client = Client::with_demo_key(&stack);
    let (status, answer) = client.chat("smollm2", 8).await;
    assert_eq!(status, 200, "{answer}");
    let usage = &answer["usage"];
    let lines = journal(&stack).await;
    let closes: Vec<&Value> = lines.iter().filter(|line| line["type"] == "close").collect();
    assert_eq!(closes.len(), 1, "{lines:?}");
    assert_eq!(closes[0]["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(closes[0]["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(stack.run(&["window", "seal"]).await["window"], 0);
    assert_eq!(stack.run(&["window", "seal"]).await["window"], Value::Null);
    let audit = stack.run(&["audit"]).await;
    assert_eq!(
        (&audit["calls"], &audit["windows"][0]["seal"]["state"]),
        (&json!(1), &json!("equal")),
        "{audit}"
    );
    assert_eq!(audit["charge_pico"], closes[0]["charge_pico"]);
    let settled = stack.run(&["settle", "--once"]).await;
    assert_eq!(settled["windows_confirmed"], 1, "{settled}");
    let (status, home) = stack.end(Signal::TERM).await;
    assert!(status.success(), "{status}");

    // A node that can serve nothing says why at once, instead of waiting to be ready.
    let artifacts = std::fs::read_dir(home.path().join("artifacts")).unwrap();
    for artifact in artifacts {
        std::fs::write(artifact.unwrap().path(), b"damaged").unwrap();
    }
    let up = run(home.path(), ["up", "--ports", "0"]).await;
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert_eq!(up.status.code(), Some(1), "{said}");
    assert!(said.contains("no registered model can be loaded") && said.contains("is registered"), "{said}");
}

#[tokio::test]
async fn keys_and_limits_change_while_it_serves() {
    let stack = Stack::start().await;
    let made = stack.run(&["keys", "create", "--credit", "1", "--name", "app"]).await;
    let client = Client::with(&stack, made["key"].as_str().unwrap());
    assert_eq!(client.chat("smollm2", 1).await.0, 200);
    let limits = stack.run(&["limits", "set", "app", "--tpm", "1"]).await;
    assert_eq!(limits["limits"]["tokens_per_minute"], 1, "{limits}");
    assert_eq!(client.chat("smollm2", 1).await.0, 429);
    stack.run(&["limits", "set", "app", "--tpm", "default"]).await;
    assert_eq!(client.chat("smollm2", 1).await.0, 200);
    stack.run(&["keys", "revoke", "app"]).await;
    assert_eq!(client.chat("smollm2", 1).await.0, 401);
    let keys = stack.run(&["keys", "list"]).await;
    let app = keys.as_array().unwrap().iter().find(|key| key["name"] == "app").unwrap();
    assert!(app["revoked_ms"].is_u64() && app["used_pico"] != "0", "{app}");
    let unknown = run(stack.home(), ["keys", "revoke", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody"));
    stack.end(Signal::TERM).await;
}

#[tokio::test]
async fn a_registered_fork_is_served_and_its_lineage_shown() {
    let stack = Stack::start().await;
    let client = Client::with_demo_key(&stack);
    let base = stack.run(&["track", "show", "smollm2"]).await["champions"][0].as_str().unwrap().to_owned();
    let fork = stack.home().join("fork.gguf");
    let file = model_file();
    let (file, out) = (file.to_str().unwrap(), fork.to_str().unwrap());
    let forked =
        ["model", "fork", file, "--out", out, "--name", "pirate", "--system-prompt", "You are a pirate."];
    stack.run(&forked).await;
    let manifest = stack.home().join("fork.toml");
    let payee = format!("0x{}", "22".repeat(20));
    let text = format!(
        "name = \"pirate\"\nkind = \"fork\"\ntrack = \"smollm2\"\nroyalty_ppm = 300_000\ninherit_ppm = 400_000\n\
         [artifact]\npath = \"fork.gguf\"\n[[parents]]\nmodel = \"{base}\"\nweight_ppm = 1_000_000\n\
         [[slots]]\npayee = \"{payee}\"\nshare_ppm = 1_000_000\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let registered = stack.run(&["model", "register", manifest.to_str().unwrap()]).await;
    let model = registered["model"].as_str().unwrap();
    let shown = stack.run(&["model", "show", model]).await;
    assert_eq!(shown["tree"]["share_ppm"], 600_000, "{shown}");
    assert_eq!(shown["tree"]["parents"][0]["model"], base);
    assert_eq!(shown["tree"]["parents"][0]["share_ppm"], 400_000);
    within("the fork to be served", async {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        while client.chat(model, 1).await.0 != 200 {
            look.tick().await;
        }
    })
    .await;
    assert!(client.models().await.iter().any(|id| id == "smollm2"));
    let again = stack.run(&["model", "register", manifest.to_str().unwrap()]).await;
    assert_eq!(again["model"], model);
    let dearer =
        std::fs::read_to_string(&manifest).unwrap().replace("royalty_ppm = 300_000", "royalty_ppm = 200_000");
    std::fs::write(&manifest, dearer).unwrap();
    let other = run(stack.home(), ["model", "register", manifest.to_str().unwrap()]).await;
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(other.status.code() == Some(1) && said.contains("royalty_ppm is 300000, here 200000"), "{said}");
    std::fs::write(&fork, [7; 2_000]).unwrap();
    let noise = run(stack.home(), ["model", "register", manifest.to_str().unwrap()]).await;
    let said = String::from_utf8_lossy(&noise.stderr).into_owned();
    assert!(noise.status.code() == Some(1) && said.contains("fork.gguf"), "{said}");
    stack.end(Signal::TERM).await;
}

#[tokio::test]
async fn a_call_in_flight_is_finished_before_the_stack_ends() {
    let stack = Stack::start().await;
    let client = Client::with_demo_key(&stack);
    let mut body = question("smollm2", 48);
    body["stream"] = json!(true);
    let mut streaming = client.send(&body).await;
    let first = streaming.chunk().await.unwrap().unwrap();
    assert!(!first.is_empty());
    let rest = tokio::spawn(async move {
        let mut text = String::new();
        while let Some(chunk) = streaming.chunk().await.unwrap() {
            text += &String::from_utf8_lossy(&chunk);
        }
        text
    });
    let (status, home) = stack.end(Signal::TERM).await;
    assert!(status.success(), "{status}");
    let text = rest.await.unwrap();
    assert!(text.contains("[DONE]"), "{text}");
    let audit = run(home.path(), ["audit", "--journal-only", "--json"]).await;
    let audit: Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert_eq!((&audit["calls"], &audit["open_calls"]), (&json!(1), &json!([])), "{audit}");
    assert_eq!(audit["windows"][0]["seal"]["state"], "equal", "the open window was sealed: {audit}");
}

#[tokio::test]
async fn contracts_are_deployed_once_on_a_chain_of_ones_own() {
    let stack = Stack::start().await;
    let home = tempfile::tempdir().unwrap();
    let rpc = stack.endpoint("rpc");
    std::fs::write(home.path().join("settings.toml"), format!("[chain]\nrpc_urls = [\"{rpc}\"]\n")).unwrap();
    let deploy = ["deploy", "--test-dollar", "--json"];
    let poor = run(home.path(), deploy).await;
    let said = String::from_utf8_lossy(&poor.stderr).into_owned();
    assert_eq!(poor.status.code(), Some(1), "{said}");
    let operator =
        dividend_chain::Key::load(&home.path().join("keys/operator.key")).unwrap().address().to_string();
    assert!(said.contains(&operator), "whom to send coin to: {said}");
    cast_rpc(&rpc, "anvil_setBalance", &[&operator, "0xde0b6b3a7640000"]).await;
    let deployed = run(home.path(), deploy).await;
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    let deployed: Value = serde_json::from_slice(&deployed.stdout).unwrap();
    assert_eq!(deployed["operator"].as_str().unwrap(), operator.to_lowercase());
    let tracks = run(home.path(), ["track", "show", "smollm2"]).await;
    assert!(String::from_utf8_lossy(&tracks.stderr).contains("smollm2"), "an empty registry");
    let again = run(home.path(), deploy).await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "a second time");
    stack.end(Signal::TERM).await;
}

#[tokio::test]
async fn candle_answers_where_the_settings_say_so() {
    let (_, home) = Stack::start().await.end(Signal::TERM).await;
    let file = home.path().join("settings.toml");
    let settings = std::fs::read_to_string(&file).unwrap() + "\n[engine]\nbackend = \"candle\"\n";
    std::fs::write(&file, settings).unwrap();
    let stack = Stack::start_in(home).await;
    let client = Client::with_demo_key(&stack);
    assert_eq!(client.model("smollm2").await["backend"], "candle");
    let (status, answer) = client.chat("smollm2", 4).await;
    assert_eq!((status, &answer["usage"]["completion_tokens"]), (200, &json!(4)), "{answer}");
    stack.end(Signal::TERM).await;
}
