//! A stack of its own for a test: started from the built binary, watched through the kernel, and gone with the test.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod client;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest that a test waits for anything; far above what any step takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// How often a test looks whether what it waits for is so.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// `dividend up` in a home of its own, on free ports.
pub struct Stack {
    home: TempDir,
    up: Child,
}

impl Stack {
    /// Starts a stack in a new home and waits until it says that it is ready.
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Starts a stack in a home that may have been used before.
    pub async fn start_in(home: TempDir) -> Self {
        let mut up = dividend(home.path(), ["up", "--ports", "0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(up.stdout.take().unwrap());
        within("the stack to be ready", stdout.read_line(&mut ready)).await.unwrap();
        if ready.is_empty() {
            let mut said = String::new();
            up.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            panic!("the stack did not start:\n{said}");
        }
        // From here on nobody reads the supervisor's progress; it must not mind.
        drop(up.stderr.take());
        Self { home, up }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn endpoint(&self, name: &str) -> String {
        read_json(&self.home().join("endpoints.json"))[name].as_str().unwrap().to_owned()
    }

    pub fn pids(&self) -> BTreeMap<String, i32> {
        pids(self.home())
    }

    pub fn pid(&self, name: &str) -> i32 {
        self.pids()[name]
    }

    pub fn supervisor(&self) -> i32 {
        self.up.id().unwrap().try_into().unwrap()
    }

    /// Runs a command in the stack's home with `--json` and answers what it printed.
    pub async fn run(&self, args: &[&str]) -> Value {
        let output = run(self.home(), args.iter().chain(&["--json"])).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Kills the child `name` and waits until another process has taken its place.
    pub async fn kill(&self, name: &str) -> i32 {
        let old = self.pid(name);
        kill(old, Signal::KILL);
        changed(self.home(), "processes.json", |pids| pids[name].as_i64() != Some(old.into())).await;
        self.pid(name)
    }

    /// Sends a signal to the supervisor and waits until it and all its children have ended; answers how it ended.
    pub async fn end(mut self, signal: Signal) -> (ExitStatus, TempDir) {
        let children = self.pids();
        kill(self.supervisor(), signal);
        let status = within("the supervisor to end", self.up.wait()).await.unwrap();
        ended(children.into_values()).await;
        (status, self.home)
    }
}

/// The built binary with the given home.
pub fn dividend(home: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dividend"));
    command.arg("--home").arg(home).args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn run(home: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    within("the command to end", dividend(home, args).output()).await.unwrap()
}

pub fn pids(home: &Path) -> BTreeMap<String, i32> {
    serde_json::from_value(read_json(&home.join("processes.json"))).unwrap()
}

pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Waits until the JSON file `name` of `folder` satisfies `wanted`.
pub async fn changed(folder: &Path, name: &str, wanted: impl Fn(&Value) -> bool) {
    let path = folder.join(name);
    until(&format!("{name} to change"), || wanted(&read_json(&path))).await;
}

/// Waits until the file `name` is in `folder`.
pub async fn appeared(folder: &Path, name: &str) {
    let path = folder.join(name);
    until(&format!("{name} to appear"), || path.exists()).await;
}

/// Waits until something is so.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    within(what, async {
        while !is_so() {
            look.tick().await;
        }
    })
    .await;
}

pub fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether a process runs. One that ended and was not waited for does not.
pub fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

/// Waits until none of the processes runs.
pub async fn ended(pids: impl IntoIterator<Item = i32>) {
    for pid in pids {
        until(&format!("process {pid} to end"), || !runs(pid)).await;
    }
}

pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// The base model's file, as `up` finds it.
pub fn model_file() -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let file = ".cache/models/smollm2-135m-instruct-q4_1.gguf";
    let found = above.map(|folder| folder.join(file)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {file} in this folder or above: run tools/setup.sh test"))
}

/// Asks the node something that is no contract's business, with Foundry's `cast`.
pub async fn cast_rpc(rpc: &str, method: &str, params: &[&str]) -> Value {
    let args = [&["rpc", "--rpc-url", rpc, method][..], params].concat();
    serde_json::from_slice(&run_cast(method, &args).await).unwrap()
}

/// Asks a contract with Foundry's `cast`, so that nothing of ours is between a test and the chain; answers its integers.
pub async fn cast(rpc: &str, contract: &str, signature: &str, args: &[&str]) -> Vec<u128> {
    let args = [&["call", "--json", "--rpc-url", rpc, contract, signature][..], args].concat();
    let values: Value = serde_json::from_slice(&run_cast(signature, &args).await).unwrap();
    integers(&values)
}

async fn run_cast(what: &str, args: &[&str]) -> Vec<u8> {
    let cast = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast");
    let mut command = Command::new(cast);
    command.args(args).stdin(Stdio::null());
    let output = within("cast to answer", command.output()).await.unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All integers of an answer, tuples flattened.
fn integers(value: &Value) -> Vec<u128> {
    match value {
        Value::Array(values) => values.iter().flat_map(integers).collect(),
        Value::String(text) => {
            let inner = text.trim_matches(['(', ')']);
            inner.split(", ").map(|part| part.split(' ').next().unwrap_or(part).parse().unwrap()).collect()
        }
        Value::Number(number) => vec![number.as_u64().unwrap().into()],
        other => panic!("no integer: {other}"),
    }
}
