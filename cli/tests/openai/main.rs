//! What the API promises, asked for by the official `openai` client of Python over a whole stack.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod models;

use std::path::Path;

use support::{Stack, within};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_gets_what_it_asks_for() {
    let stack = Stack::start().await;
    let key = stack.run(&["keys", "create", "--credit", "100", "--name", "client"]).await;
    let embedder = models::register_embedder(&stack).await;
    let patch = models::register_patch(&stack).await;
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = crate_folder.join("../.cache/venv/bin/python");
    assert!(python.exists(), "{} is missing: run tools/setup.sh test", python.display());
    let checks = Command::new(python)
        .arg(crate_folder.join("tests/openai/checks.py"))
        .env("OPENAI_BASE_URL", format!("{}/v1", stack.endpoint("api")))
        .env("DIVIDEND_EMBEDDER", embedder)
        .env("DIVIDEND_PATCH", patch)
        .env("OPENAI_API_KEY", key["key"].as_str().unwrap())
        .kill_on_drop(true)
        .output();
    let output = within("the client's checks", checks).await.unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
}
