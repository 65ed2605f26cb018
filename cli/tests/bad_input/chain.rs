//! A chain that is not the one it should be.

use std::path::Path;

use rustix::process::Signal;

use super::commands::assert_refused;
use crate::support::client::{Client, question};
use crate::support::{Stack, cast_rpc, ended, read_json, run, until};

/// An endpoint that refuses, and a contract that is not where it should be.
pub async fn of_another_deployment_is_refused(stack: &Stack) {
    let home = tempfile::tempdir().unwrap();
    let show = ["track", "show", "smollm2"];
    let write = |name: &str, text: String| std::fs::write(home.path().join(name), text).unwrap();
    let mut deployment = read_json(&stack.home().join("deployment.json"));
    let endpoint = |url: &str| format!("[chain]\nrpc_urls = [\"{url}\"]\n");

    write("deployment.json", deployment.to_string());
    write("settings.toml", endpoint("http://127.0.0.1:1"));
    assert_refused("an RPC that refuses", &run(home.path(), show).await, 1, &["127.0.0.1:1"]);

    write("settings.toml", endpoint(&stack.endpoint("rpc")));
    assert!(run(home.path(), show).await.status.success(), "the same home, with the right endpoint");

    let token = deployment["token"].clone();
    deployment["contracts"]["LineageRegistry"] = token.clone();
    write("deployment.json", deployment.to_string());
    let words = ["its registry is 0x", "another deployment", "fresh home"];
    assert_refused("another contract", &run(home.path(), show).await, 1, &words);
}

/// After a roll-back below final blocks nothing is served, and every part says why.
pub async fn that_was_rolled_back_is_refused(stack: Stack, client: Client) {
    let serving = stack.pid("serve");
    let log = stack.home().join("logs/serve.log");
    cast_rpc(&stack.endpoint("rpc"), "anvil_rollback", &["10"]).await;
    until("serve to tell of the roll-back", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("rolled back"))
    })
    .await;
    ended([serving]).await;
    let answer = client.try_send(&question("smollm2", 1)).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.status().is_success()), "nothing is served");
    let (_, home) = stack.end(Signal::TERM).await;
    a_redis_that_refuses_is_named(home.path()).await;
}

/// The aggregate is a cache: without it the journal is still audited, and the command says what was left out.
async fn a_redis_that_refuses_is_named(home: &Path) {
    let settings = home.join("settings.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}\n[redis]\nurl = \"redis://127.0.0.1:1\"\n")).unwrap();
    let audit = run(home, ["audit", "--json"]).await;
    let said = String::from_utf8_lossy(&audit.stderr);
    assert!(audit.status.success() && said.contains("127.0.0.1:1") && said.contains("left out"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert!(
        report["calls"].as_u64().unwrap() >= 2 && report["open_calls"] == serde_json::json!([]),
        "{report}"
    );
}
