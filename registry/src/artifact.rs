//! What a model consists of, and the digest by which it is registered.
//!
//! An artifact is a file, or a folder of files. A file's digest is its SHA-256. A folder's is the SHA-256 of its list: one
//! line `<SHA-256 in hex>  <path>` for each file, paths with `/`, in the order of their bytes. A shell says the same:
//!
//! ```text
//! cd folder && find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use alloy::primitives::{B256, hex};
use sha2::{Digest, Sha256};

/// Limits of a folder: more than any model of today has.
const MAX_FILES: usize = 256;
const MAX_DEPTH: usize = 4;
const MAX_PATH_BYTES: usize = 200;

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its path in the folder, with `/`.
    pub name: String,
    /// Its path on this machine.
    pub path: PathBuf,
}

/// The digest of the artifact at `path`, a file or a folder.
///
/// # Errors
/// What cannot be read, and a folder that [`members`] refuses.
pub fn digest(path: &Path) -> io::Result<B256> {
    if !path.is_dir() {
        return sha256(path);
    }
    let mut list = Sha256::new();
    for member in members(path)? {
        let digest = sha256(&member.path)?;
        list.update(format!("{}  {}\n", hex::encode(digest), member.name));
    }
    Ok(B256::from_slice(&list.finalize()))
}

/// The files of a folder, in the order of its list.
///
/// # Errors
/// [`ErrorKind::InvalidData`] for a folder without files, with too many, with links or devices, or with names that other
/// systems could read otherwise.
pub fn members(folder: &Path) -> io::Result<Vec<Member>> {
    let mut found = Vec::new();
    collect(folder, "", 0, &mut found)?;
    if found.is_empty() {
        return Err(invalid(folder, "has no files"));
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<Member>) -> io::Result<()> {
    if depth == MAX_DEPTH {
        return Err(invalid(folder, &format!("is nested more than {MAX_DEPTH} deep")));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().into_string().ok().filter(|name| is_portable(name));
        let Some(name) = name else {
            return Err(invalid(
                &path,
                "must be named with letters, digits, '.', '_' and '-', beginning with none of the last three",
            ));
        };
        let name = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), depth + 1, found)?;
        } else if kind.is_file() && name.len() <= MAX_PATH_BYTES && found.len() < MAX_FILES {
            found.push(Member { name, path });
        } else if kind.is_file() {
            let problem =
                format!("is one too many, or too long: {MAX_FILES} files, {MAX_PATH_BYTES} bytes of path");
            return Err(invalid(&path, &problem));
        } else {
            return Err(invalid(&path, "is neither a file nor a folder"));
        }
    }
    Ok(())
}

/// Hidden files are none of an artifact's, and nothing may look like an option or leave the folder.
fn is_portable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-'))
}

fn invalid(path: &Path, problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{} {problem}", path.display()))
}

/// SHA-256 of a file, read in pieces.
fn sha256(path: &Path) -> io::Result<B256> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(B256::from_slice(&hasher.finalize())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_has_the_digest_that_a_shell_says() {
        let folder = folder(&[("config.json", "{}"), ("1_Pooling/config.json", "[]"), ("Z.txt", "")]);
        let said = std::process::Command::new("sh")
            .args(["-c", "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(hex::encode(digest(folder.path()).unwrap()), said[..64]);
    }

    #[test]
    fn names_and_contents_change_the_digest() {
        let digests = [
            folder(&[("a", "x"), ("b", "y")]),
            folder(&[("a", "y"), ("b", "x")]),
            folder(&[("a", "x"), ("c", "y")]),
            folder(&[("a", "x")]),
        ]
        .map(|folder| digest(folder.path()).unwrap());
        for (place, one) in digests.iter().enumerate() {
            assert!(!digests[..place].contains(one));
        }
    }

    #[test]
    fn links_hidden_files_and_empty_folders_are_refused() {
        let refused =
            |folder: &tempfile::TempDir| digest(folder.path()).unwrap_err().kind() == ErrorKind::InvalidData;
        assert!(refused(&folder(&[])));
        assert!(refused(&folder(&[(".hidden", "x")])));
        assert!(refused(&folder(&[("-option", "x")])));
        assert!(refused(&folder(&[("a/b/c/d/e", "x")])));
        let linked = folder(&[("a", "x")]);
        std::os::unix::fs::symlink("/etc/passwd", linked.path().join("b")).unwrap();
        assert!(refused(&linked));
    }
}
