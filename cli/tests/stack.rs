//! `dividend up` with real children: they come back when they die, and none outlives the stack.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::TcpListener;

use rustix::process::Signal;
use support::{Stack, dividend, ended, kill, pids, read_json, run, within};

#[tokio::test]
async fn each_child_that_is_killed_comes_back_on_its_port() {
    let stack = Stack::start().await;
    let before = stack.pids();
    for name in before.keys() {
        let new = stack.kill(name).await;
        assert_ne!(new, before[name], "{name}");
    }
    assert_eq!(stack.pids().len(), before.len());
    let (status, home) = stack.end(Signal::TERM).await;
    assert!(status.success(), "{status}");
    assert!(!home.path().join("processes.json").exists() && !home.path().join("endpoints.json").exists());
}

#[tokio::test]
async fn nothing_outlives_a_supervisor_that_is_killed() {
    let stack = Stack::start().await;
    let (status, home) = stack.end(Signal::KILL).await;
    assert!(!status.success());
    let again = Stack::start_in(home).await;
    let (status, _home) = again.end(Signal::INT).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn homes_run_side_by_side_and_a_home_has_one_stack() {
    let (one, two) = tokio::join!(Stack::start(), Stack::start());
    assert_ne!(one.endpoint("api"), two.endpoint("api"));
    let second = run(one.home(), ["up", "--ports", "0"]).await;
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains(&format!("pid {}", one.supervisor())) && said.contains("remedy: "), "{said}");
    one.end(Signal::TERM).await;
    assert_eq!(two.run(&["status"]).await["supervisor"], two.supervisor());
    two.end(Signal::TERM).await;
}

#[tokio::test]
async fn a_detached_stack_is_stopped_by_down() {
    let home = tempfile::tempdir().unwrap();
    let up = run(home.path(), ["up", "--detach", "--ports", "0", "--json"]).await;
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let endpoints: serde_json::Value = serde_json::from_slice(&up.stdout).unwrap();
    assert_eq!(endpoints, read_json(&home.path().join("endpoints.json")));
    let children = pids(home.path());
    assert!(!children.is_empty());
    let down = run(home.path(), ["down"]).await;
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    ended(children.into_values()).await;
    let idle = run(home.path(), ["down"]).await;
    assert!(idle.status.success() && String::from_utf8_lossy(&idle.stdout).contains("nothing runs"));
}

#[tokio::test]
async fn a_stack_that_is_stopped_while_it_starts_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut up = dividend(home.path(), ["up", "--ports", "0"]).spawn().unwrap();
    support::appeared(home.path(), "processes.json").await;
    let children = pids(home.path());
    kill(up.id().unwrap().try_into().unwrap(), Signal::TERM);
    assert!(within("the supervisor to end", up.wait()).await.unwrap().success());
    ended(children.into_values()).await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_remedy() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = occupied.local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    let output = run(home.path(), ["up", "--ports", &base.to_string()]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("port {base} (api) is taken")) && said.contains("--ports 0"), "{said}");
}
