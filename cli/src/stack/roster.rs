//! `processes.json`: which process is which child.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::home::{self, Home};
use crate::output::say;

/// Name → process id, written to the home at every change. A child that is down keeps its last id until its next one.
#[derive(Debug, Clone)]
pub(super) struct Roster {
    path: PathBuf,
    pids: Arc<Mutex<BTreeMap<&'static str, u32>>>,
}

impl Roster {
    pub(super) fn new(home: &Home) -> Self {
        Self { path: home.processes(), pids: Arc::default() }
    }

    /// Records that child `name` now is process `pid`.
    pub(super) fn record(&self, name: &'static str, pid: u32) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        pids.insert(name, pid);
        if let Err(error) = home::write_json(&self.path, &*pids) {
            say(format!("{name} runs as {pid}, but {error}"));
        }
    }
}
