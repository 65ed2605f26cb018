//! The stack's Redis: append-only file, fsync every second, loopback only.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::OrFail;
use crate::output::say;

/// Redis names its append-only files after this manifest.
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

/// The arguments of `redis-server`.
pub(super) fn args(port: u16, folder: &Path) -> Vec<OsString> {
    let port = port.to_string();
    let fixed = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--daemonize",
        "no",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--maxmemory-policy",
        "noeviction",
        "--dir",
    ];
    fixed.into_iter().map(OsString::from).chain([folder.as_os_str().to_owned()]).collect()
}

/// Mends the append-only file after a crash. A tail torn inside a transaction would otherwise be replayed by half at the
/// restart after the next. A file beyond mending is set aside: all that is in it can be folded from the journal again.
pub(super) fn mend(check: &Path, folder: &Path) -> anyhow::Result<()> {
    let manifest = folder.join(MANIFEST);
    if !manifest.exists() {
        return Ok(());
    }
    let mut child = Command::new(check)
        .arg("--fix")
        .arg(&manifest)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .or_fail(check.display(), "install it: apt-get install redis-server")?;
    if let Some(mut stdin) = child.stdin.take() {
        // It asks before it cuts; a sound file asks nothing and may have ended already.
        let _ = stdin.write_all(b"y\n");
    }
    let outcome = child.wait_with_output()?;
    if !outcome.status.success() {
        let aside = folder.join("appendonlydir.broken");
        say(format!("redis: the append-only file cannot be mended; it is set aside as {}", aside.display()));
        if aside.exists() {
            std::fs::remove_dir_all(&aside)?;
        }
        std::fs::rename(folder.join("appendonlydir"), &aside)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_without_a_file_needs_no_mending() {
        let folder = tempfile::tempdir().unwrap();
        mend(Path::new("/nonexistent/redis-check-aof"), folder.path()).unwrap();
    }

    #[test]
    fn a_file_beyond_mending_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("appendonlydir");
        for text in ["first", "second"] {
            std::fs::create_dir(&data).unwrap();
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            mend(Path::new("/bin/false"), folder.path()).unwrap();
            assert!(!data.exists());
            let aside = folder.path().join("appendonlydir.broken/appendonly.aof.manifest");
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
        }
    }
}
