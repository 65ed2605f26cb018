//! Which process is meant: a process id alone may have been given to another process since it was written down.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::interval;

/// How often a process that is to end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process, told apart from later ones with the same id by the moment it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its id.
    pub(crate) pid: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub(crate) started_ticks: u64,
}

impl Identity {
    /// The process that now has `pid`; `None` if there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may itself contain spaces and parentheses; fields are counted after its end.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let started_ticks = fields.nth(18)?.parse().ok()?;
        (!is_dead).then_some(Self { pid, started_ticks })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// A handle to the process; `None` if it has ended.
    pub(crate) fn open(self) -> Option<Handle> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Checked after opening: the handle then means the process that was recorded, whatever happens to the id.
        (Self::of(self.pid) == Some(self)).then_some(Handle { fd, identity: self })
    }
}

/// The process `pid` if it works in `folder` or below, as the children of a home's supervisor do.
pub(crate) fn working_in(pid: u32, folder: &Path) -> Option<Identity> {
    let identity = Identity::of(pid)?;
    let works_in = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    works_in.starts_with(folder).then_some(identity)
}

/// A process that cannot be mistaken for another while this is held.
pub(crate) struct Handle {
    fd: OwnedFd,
    identity: Identity,
}

impl Handle {
    /// Sends a signal; a process that has ended needs none.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) {
        let mut look = interval(LOOK_EVERY);
        while Identity::of(self.identity.pid) == Some(self.identity) {
            look.tick().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_and_an_earlier_one_of_its_id_is_not() {
        let own = Identity::own().unwrap();
        assert!(own.open().is_some());
        let earlier = Identity { started_ticks: own.started_ticks - 1, ..own };
        assert!(earlier.open().is_none());
        let here = std::env::current_dir().unwrap();
        assert_eq!(working_in(own.pid, &here), Some(own));
        assert_eq!(working_in(own.pid, Path::new("/nowhere")), None);
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let handle = identity.open().unwrap();
        handle.signal(Signal::KILL);
        handle.ended().await;
        child.wait().unwrap();
        assert!(identity.open().is_none());
    }
}
