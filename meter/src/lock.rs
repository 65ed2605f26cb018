//! One writer per directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::MeterError;

/// Name of the lock file in a meter's directory.
const LOCK_FILE: &str = "meter.lock";
/// A pid and a newline; nothing longer is read back.
const MAX_PID_BYTES: u64 = 32;

/// The writer's lock. The kernel lets go of it when the process dies, however it dies.
pub(crate) struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock of `dir`, making the directory if it is missing, and writes this process's pid into it.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, MeterError> {
        std::fs::create_dir_all(dir).map_err(MeterError::file(dir))?;
        let path = dir.join(LOCK_FILE);
        let at = || MeterError::file(&path);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(at())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = file.take(MAX_PID_BYTES).read_to_string(&mut pid);
                let pid = if read.is_ok() && !pid.trim().is_empty() { pid.trim() } else { "unknown" };
                return Err(MeterError::Locked { path, pid: pid.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(at()(error)),
        }
        file.set_len(0).map_err(at())?;
        writeln!(file, "{}", std::process::id()).map_err(at())?;
        Ok(Self { _file: file })
    }
}
