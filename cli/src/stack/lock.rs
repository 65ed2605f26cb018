//! One supervisor per home: a lock that the kernel lets go of however its holder ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use crate::failure::{Failure, OrFail};
use crate::home::Home;
use crate::identity::Identity;

/// The home's lock, held while this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Who has a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// Nobody.
    Nobody,
    /// A supervisor.
    Supervisor(Identity),
}

impl Lock {
    /// Takes the home for this process.
    pub(crate) fn take(home: &Home) -> anyhow::Result<Self> {
        let mut file = open(home)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let root = home.root().display();
                let message = format!("home {root} has a running stack ({})", holder(&mut file));
                let remedy = format!("stop it with `dividend down --home {root}`, or use another --home");
                return Err(Failure::new(message, remedy).into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).or_fail("up.lock", "use a local file system");
            }
        }
        let own = Identity::own().ok_or_else(|| Failure::new("/proc cannot be read", "mount it"))?;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&own)?)?;
        Ok(Self { _file: file })
    }

    /// Who has the home now.
    pub(crate) fn occupant(home: &Home) -> anyhow::Result<Occupant> {
        if !home.path("up.lock").exists() {
            return Ok(Occupant::Nobody);
        }
        let mut file = open(home)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Occupant::Nobody),
            Err(TryLockError::Error(error)) => Err(error).or_fail("up.lock", "use a local file system"),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                let identity = serde_json::from_str(&text)
                    .or_fail("up.lock does not say who holds it", "try again in a moment")?;
                Ok(Occupant::Supervisor(identity))
            }
        }
    }
}

fn open(home: &Home) -> anyhow::Result<File> {
    let path = home.path("up.lock");
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_fail(format!("cannot open {}", path.display()), "check the folder's permissions")
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let identity =
        file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Identity>(&text).ok());
    identity.map_or_else(|| "starting".to_owned(), |identity| format!("pid {}", identity.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_supervisor_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path()).unwrap().create().unwrap();
        assert_eq!(Lock::occupant(&home).unwrap(), Occupant::Nobody);
        let lock = Lock::take(&home).unwrap();
        assert_eq!(Lock::occupant(&home).unwrap(), Occupant::Supervisor(Identity::own().unwrap()));
        let refused = Lock::take(&home).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(lock);
        assert_eq!(Lock::occupant(&home).unwrap(), Occupant::Nobody);
        Lock::take(&home).unwrap();
    }
}
