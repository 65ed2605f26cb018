//! The digest by which an artifact is registered.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::EngineError;
use crate::gguf::open;

/// Bytes read at a time: large enough for sequential disk speed, small enough for any machine.
const BLOCK: usize = 1 << 20;

/// SHA-256 of bytes in memory: what [`digest_file`] says of a file that has them.
pub(crate) fn digest_bytes(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of the file at `path`, read in blocks: the artifact digest under which a model is registered.
pub fn digest_file(path: &Path) -> Result<[u8; 32], EngineError> {
    let mut file: File = open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(read) => hasher.update(&block[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(EngineError::Io { action: "read", path: path.into(), source }),
        }
    }
}
