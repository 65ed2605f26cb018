//! A process that meters is killed with SIGKILL in the middle of its work, again and again on one journal. Its client's
//! log is the oracle of I1 and I2.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::*;
use dividend_meter::journal::{Reader, Record};
use dividend_meter::{CallId, CloseReason, audit};

const KILLS: u32 = 12;
const THREADS: usize = 6;
const CHUNK: u32 = 3;

/// What the client of a call saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    made: u32,
    sent: u32,
    closed: bool,
}

fn writer() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let writer = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/writer");
    assert!(
        writer.exists(),
        "{} is missing: build it with cargo build -p dividend-meter --examples",
        writer.display()
    );
    writer
}

/// Runs the writer until it has told `lines` lines, kills it, and reads what it had told.
fn run_and_kill(dir: &std::path::Path, lines: usize, seen: &mut BTreeMap<CallId, Seen>) {
    let args = [dir.to_str().unwrap().to_owned(), THREADS.to_string(), CHUNK.to_string()];
    let mut child = Command::new(writer()).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut told, mut line) = (0, String::new());
    while out.read_line(&mut line).unwrap() > 0 {
        // The kill may cut the last line short: then it was not told.
        if line.ends_with('\n') {
            note(&line, seen);
            told += 1;
        }
        if told == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    assert!(told >= lines, "the writer stopped by itself after {told} lines");
    child.wait().unwrap();
}

fn note(line: &str, seen: &mut BTreeMap<CallId, Seen>) {
    let words: Vec<_> = line.split_whitespace().collect();
    let call = seen.entry(words[1].parse().unwrap()).or_default();
    let tokens = || words[2].parse::<u32>().unwrap();
    match words[0] {
        "open" => {}
        "made" => call.made = tokens(),
        "sent" => call.sent = tokens(),
        "closed" => call.closed = true,
        other => panic!("the writer said {other:?}"),
    }
}

#[test]
fn every_call_is_closed_once_and_charged_what_was_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = BTreeMap::new();
    let mut recovered_calls = 0;
    for kill in 0..KILLS {
        run_and_kill(dir.path(), 200 + 137 * kill as usize, &mut seen);
        if kill % 2 == 0 {
            // Otherwise the next writer recovers.
            let (_, recovered) = open(dir.path());
            recovered_calls += recovered.closed.len();
            assert!(recovered.closed.len() <= THREADS);
        }
    }
    drop(open(dir.path()));
    let report = audit(dir.path()).unwrap().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.open_calls, []);
    assert!(recovered_calls > 0, "no kill came in the middle of a call");
    check_closes(dir.path(), &seen);
}

fn check_closes(dir: &std::path::Path, seen: &BTreeMap<CallId, Seen>) {
    let (mut opened, mut closed) = (0, BTreeMap::new());
    let mut reader = Reader::open(dir).unwrap().unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        match entry.record {
            Record::Open(_) => opened += 1,
            Record::Close(close) => {
                assert!(closed.insert(close.call, close).is_none(), "I1: {} is closed twice", close.call);
            }
            _ => {}
        }
    }
    assert_eq!(opened, closed.len(), "I1: an opened call is not closed");
    for (call, seen) in seen {
        let close =
            closed.get(call).unwrap_or_else(|| panic!("I1: {call}, which the client saw, is not closed"));
        let metered = close.usage.completion_tokens;
        assert!(seen.sent <= metered, "I2: {call} delivered {}, metered {metered}", seen.sent);
        assert!(metered <= seen.made, "I2: {call} metered {metered}, generated {}", seen.made);
        assert!(metered <= seen.sent + CHUNK, "I2: {call} metered {metered}, delivered {}", seen.sent);
        assert!(!seen.closed || close.reason == CloseReason::Stop, "{call} was closed before the kill");
    }
}
