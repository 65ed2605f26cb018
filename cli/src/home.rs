//! The home folder: where everything is, and how its files are written.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, OrFail};

/// A home folder. Its path is absolute, because children run in folders of their own.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `path`, whether it exists or not.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let remedy = "name a folder with --home";
        let absolute = std::path::absolute(path).or_fail(format!("home {}", path.display()), remedy)?;
        let root = absolute.canonicalize().unwrap_or(absolute);
        if root.exists() && !root.is_dir() {
            return Err(Failure::usage(format!("home {} is not a folder", root.display()), remedy).into());
        }
        Ok(Self { root })
    }

    /// Makes the home and its folders, and answers it by its real path.
    pub(crate) fn create(&self) -> anyhow::Result<Self> {
        let remedy = "choose a folder that you can write to with --home";
        for folder in ["keys", "redis", "anvil", "serve", "settle", "artifacts", "logs"] {
            let path = self.root.join(folder);
            std::fs::create_dir_all(&path).or_fail(format!("cannot make {}", path.display()), remedy)?;
        }
        let keys = self.path("keys");
        std::fs::set_permissions(&keys, Permissions::from_mode(0o700))
            .or_fail(format!("cannot close {} to others", keys.display()), remedy)?;
        Self::new(&self.root)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder of the home.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// What the user set.
    pub(crate) fn settings(&self) -> PathBuf {
        self.path("settings.toml")
    }

    /// URLs and contracts of the running stack.
    pub(crate) fn endpoints(&self) -> PathBuf {
        self.path("endpoints.json")
    }

    /// Process ids of the running stack.
    pub(crate) fn processes(&self) -> PathBuf {
        self.path("processes.json")
    }

    /// The operator's private key: it owns the contracts' operator role and signs receipts.
    pub(crate) fn operator_key(&self) -> PathBuf {
        self.path("keys/operator.key")
    }

    /// The private key of whoever owns this home's models and tracks.
    pub(crate) fn owner_key(&self) -> PathBuf {
        self.path("keys/owner.key")
    }

    /// The secret of `serve`'s admin API.
    pub(crate) fn admin_token(&self) -> PathBuf {
        self.path("keys/admin.token")
    }

    /// An API key with credit for first steps.
    pub(crate) fn demo_key(&self) -> PathBuf {
        self.path("keys/demo.key")
    }

    /// Where a child's output goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(format!("{name}.log"))
    }
}

/// Writes `value` as JSON so that a reader sees the old file or the new one, never a part.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    replace(path, &text, 0o644)
}

/// Writes a secret that its owner alone can read.
pub(crate) fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    replace(path, format!("{secret}\n").as_bytes(), 0o600)
}

/// Reads a JSON file; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).or_fail(path.display(), "make the file readable"),
    };
    serde_json::from_slice(&text).map(Some).or_fail(path.display(), "remove the file; it is written again")
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_fail(format!("cannot remove {}", path.display()), "check the folder's permissions")
        }
        _ => Ok(()),
    }
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write()
        .or_fail(format!("cannot write {}", path.display()), "make room and check the folder's permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone_and_json_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path()).unwrap().create().unwrap();
        let secret = home.path("keys/admin.token");
        write_secret(&secret, "abc").unwrap();
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(home.path("keys")).unwrap().permissions().mode() & 0o777, 0o700);
        let path = home.processes();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), None);
        write_json(&path, &[1, 2]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), Some(vec![1, 2]));
        std::fs::write(&path, "[1,").unwrap();
        assert!(read_json::<Vec<u32>>(&path).unwrap_err().to_string().contains("processes.json"));
    }

    #[test]
    fn a_file_is_no_home() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Home::new(file.path()).unwrap_err().to_string().contains("not a folder"));
    }
}
