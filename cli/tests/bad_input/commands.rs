//! What a person meets at the command line.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Stack, model_file, run};

/// A refused command: exit code, nothing on standard output, and the words that its message must have. No stack trace.
pub fn assert_refused(name: &str, output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{name}: {said}");
    assert!(output.stdout.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(said.contains(word), "{name}: no {word:?} in: {said}");
    }
    for trace in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!said.contains(trace), "{name}: {said}");
    }
}

/// A file in `folder` that is no model which the engine can run.
fn bad_model(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The start of a GGUF whose only entry says that its architecture is `mamba`.
fn mamba() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let (version, tensors, entries, string) = (3u32, 0u64, 1u64, 8u32);
    [
        b"GGUF".to_vec(),
        version.to_le_bytes().to_vec(),
        tensors.to_le_bytes().to_vec(),
        entries.to_le_bytes().to_vec(),
        text("general.architecture"),
        string.to_le_bytes().to_vec(),
        text("mamba"),
    ]
    .concat()
}

#[tokio::test]
async fn up_refuses_what_it_cannot_run() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(model_file()).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let missing = folder.path().join("missing.gguf");
    let noise = bad_model(folder.path(), "noise.gguf", &[7; 4_096]);
    let half = bad_model(folder.path(), "half.gguf", &whole[..whole.len() / 2]);
    let other = bad_model(folder.path(), "other.gguf", &mamba());
    let empty = bad_model(folder.path(), "empty.gguf", b"");
    let model =
        |path: &Path| vec!["--ports".into(), "0".into(), "--model".into(), path.display().to_string()];
    let table = [
        ("no such model file", model(&missing), &["missing.gguf", "tools/setup.sh"][..]),
        ("noise for a model", model(&noise), &["noise.gguf", "GGUF"]),
        ("half a model", model(&half), &["half.gguf", "GGUF"]),
        ("an empty model file", model(&empty), &["empty.gguf", "GGUF"]),
        ("a model of another kind", model(&other), &["other.gguf", "mamba", "llama"]),
        ("a taken port", vec!["--ports".into(), port.clone()], &[&port, "remedy"]),
    ];
    for (name, args, words) in table {
        let home = tempfile::tempdir().unwrap();
        let output = run(home.path(), std::iter::once("up".to_owned()).chain(args)).await;
        assert_refused(name, &output, 1, words);
        let left = home.path().join("processes.json");
        assert!(!left.exists(), "{name}: {} was left behind", left.display());
    }
}

/// A command in a home that has nothing but settings, and what it must answer.
struct Case {
    name: &'static str,
    settings: &'static str,
    args: &'static [&'static str],
    code: i32,
    words: &'static [&'static str],
}

#[tokio::test]
async fn commands_refuse_what_makes_no_sense() {
    let case = |name, settings, args, code, words| Case { name, settings, args, code, words };
    let track = &["track", "show", "smollm2"];
    let no_contracts = &["no contracts", "dividend up"];
    let open_proxy = &["pay", "proxy", "--cap", "1", "--listen", "0.0.0.0:0"];
    let table = [
        case(
            "an unknown setting",
            "[meter]\nwindow = 1\n",
            &["audit"],
            64,
            &["meter.window", "settings.toml"],
        ),
        case(
            "a setting of the wrong type",
            "[gateway]\nqueue_calls = \"many\"",
            &["audit"],
            64,
            &["queue_calls"],
        ),
        case("settings that are no TOML", "[gateway\n", &["audit"], 64, &["settings.toml"]),
        case("a home without a journal", "", &["audit"], 1, &["no journal", "--home"]),
        case("an export without a journal", "", &["journal", "export"], 1, &["no journal", "--home"]),
        case("a home without contracts", "", track, 1, no_contracts),
        case("serving without contracts", "", &["serve"], 1, no_contracts),
        case("a negative credit", "", &["keys", "create", "--credit", "-1"], 64, &["-1"]),
        case("a proxy open to the network", "", open_proxy, 64, &["0.0.0.0"]),
    ];
    for Case { name, settings, args, code, words } in table {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("settings.toml"), settings).unwrap();
        assert_refused(name, &run(home.path(), args).await, code, words);
    }
}

/// Commands that find a stack, but not what they ask for, or not the services that they need.
pub async fn are_refused_beside_a_stack(stack: &Stack) {
    let nobody = format!("0x{}", "ab".repeat(32));
    let open = ["pay", "open", "--deposit", "1", "--key", "nowhere.key"];
    let table: [(&str, &[&str], i32, &[&str]); 6] = [
        ("a key that is not there", &open, 1, &["nowhere.key", "dividend faucet"]),
        ("an unknown model", &["model", "show", &nobody], 1, &[&nobody[..8]]),
        ("an unknown track", &["track", "show", "nobody"], 1, &["nobody"]),
        ("an unknown key", &["limits", "set", "nobody", "--rpm", "1"], 1, &["nobody"]),
        ("a manifest that is not there", &["model", "register", "nowhere.toml"], 1, &["nowhere.toml"]),
        ("a second stack in the home", &["up", "--ports", "0"], 1, &["running"]),
    ];
    for (name, args, code, words) in table {
        assert_refused(name, &run(stack.home(), args).await, code, words);
    }
}
