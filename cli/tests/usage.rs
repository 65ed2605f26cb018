//! What a person meets who types something wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::run;

async fn refused(args: &[&str], settings: Option<&str>) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    if let Some(text) = settings {
        std::fs::write(home.path().join("settings.toml"), text).unwrap();
    }
    let output = run(home.path(), args).await;
    assert!(output.stdout.is_empty(), "errors belong on standard error");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn bad_usage_exits_64() {
    for args in
        [&["fly"][..], &["up", "--ports", "many"], &["up", "--ports", "65535"], &["status", "--nonsense"]]
    {
        let (code, said) = refused(args, None).await;
        assert_eq!(code, Some(64), "{args:?}: {said}");
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[tokio::test]
async fn all_bad_settings_are_told_at_once_and_exit_64() {
    let settings = "[meter]\nwindow_ms = -1\nbogus = 2\n[gatway]\n";
    let (code, said) = refused(&["up", "--ports", "0"], Some(settings)).await;
    assert_eq!(code, Some(64), "{said}");
    for part in ["settings.toml", "meter.window_ms = -1", "meter.bogus", "gatway", "remedy: "] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
}

#[tokio::test]
async fn help_and_version_are_answers() {
    let home = tempfile::tempdir().unwrap();
    for flag in ["--help", "--version"] {
        let output = run(home.path(), [flag]).await;
        assert!(output.status.success() && !output.stdout.is_empty());
    }
}
