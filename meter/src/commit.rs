//! Group commit: one thread brings the journal to the disk, for all who wait at once.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

/// How far the disk has the journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommitState {
    /// Bytes that have reached the disk.
    pub(crate) durable: u64,
    /// Why the last sync failed. After one failure the kernel may have dropped the pages and say yes the next time, so
    /// it is final (<https://wiki.postgresql.org/wiki/Fsync_Errors>).
    pub(crate) failure: Option<String>,
}

/// The committer's thread and what is shared with it. Dropping it syncs what is left and joins the thread.
pub(crate) struct GroupCommit {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
    state: watch::Sender<CommitState>,
}

#[derive(Default)]
struct Work {
    written: u64,
    file: Option<Arc<File>>,
    /// Somebody waits: do not gather any longer.
    urgent: bool,
    stop: bool,
}

impl GroupCommit {
    /// Starts the thread; everything before `durable` is on the disk already.
    pub(crate) fn start(durable: u64, gather: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            work: Mutex::new(Work { written: durable, ..Work::default() }),
            changed: Condvar::new(),
            state: watch::Sender::new(CommitState { durable, failure: None }),
        });
        let of_thread = shared.clone();
        let thread =
            std::thread::Builder::new().name("journal-sync".into()).spawn(move || of_thread.run(gather))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Tells that the journal has grown to `end`, which lies in `file`; all before `file` is on the disk.
    pub(crate) fn written(&self, end: u64, file: &Arc<File>) {
        let mut work = self.shared.work();
        let was_idle = work.file.is_none();
        work.written = end;
        if !work.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)) {
            work.file = Some(file.clone());
        }
        if was_idle {
            self.shared.changed.notify_all();
        }
    }

    /// Bytes that have reached the disk.
    pub(crate) fn durable(&self) -> u64 {
        self.shared.state.borrow().durable
    }

    /// Why the disk failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.state.borrow().failure.clone()
    }

    /// The state, for one who is going to wait for it: the next commit begins at once.
    pub(crate) fn subscribe(&self) -> watch::Receiver<CommitState> {
        self.shared.work().urgent = true;
        self.shared.changed.notify_all();
        self.shared.state.subscribe()
    }

    /// Blocks until `end` has reached the disk, or answers why it never will.
    pub(crate) fn wait(&self, end: u64) -> Result<(), String> {
        let mut work = self.shared.work();
        loop {
            let state = self.shared.state.borrow().clone();
            if let Some(problem) = state.failure {
                return Err(problem);
            }
            if state.durable >= end {
                return Ok(());
            }
            work.urgent = true;
            self.shared.changed.notify_all();
            work = self.shared.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shared.work().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's sync thread panicked");
        }
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, gather: Duration) {
        while let Some((file, end)) = self.next(gather) {
            let result = file.sync_data();
            // Under the lock, so that nobody in `wait` misses the change between its look and its sleep.
            let _work = self.work();
            self.state.send_modify(|state| match &result {
                Ok(()) => state.durable = end,
                Err(error) => state.failure = Some(error.to_string()),
            });
            self.changed.notify_all();
        }
    }

    /// Waits for something to sync, gathers more for a while unless somebody waits, and takes it. `None` ends the thread.
    fn next(&self, gather: Duration) -> Option<(Arc<File>, u64)> {
        let wait = |work, until: fn(&mut Work) -> bool| {
            self.changed.wait_while(work, until).unwrap_or_else(PoisonError::into_inner)
        };
        let work = wait(self.work(), |work| work.file.is_none() && !work.stop);
        let gathered = self.changed.wait_timeout_while(work, gather, |work| !work.urgent && !work.stop);
        let (mut work, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        work.urgent = false;
        work.file.take().map(|file| (file, work.written))
    }
}
