//! Small files, read whole.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::EngineError;
use crate::gguf::open;

/// The bytes of a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| EngineError::Io { action: "read", path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        let detail = format!("it is longer than {limit} bytes");
        return Err(EngineError::Inconsistent { what: path.display().to_string(), detail });
    }
    Ok(bytes)
}

/// The value that a JSON file of at most `limit` bytes holds.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, EngineError> {
    let bytes = read(path, limit)?;
    serde_json::from_slice(&bytes).map_err(|error| EngineError::Inconsistent {
        what: path.display().to_string(),
        detail: format!("it is not the JSON that is expected: {error}"),
    })
}

/// The same of a file that may be absent.
pub(crate) fn read_optional_json<T: DeserializeOwned>(
    path: &Path,
    limit: u64,
) -> Result<Option<T>, EngineError> {
    match read_json(path, limit) {
        Ok(value) => Ok(Some(value)),
        Err(EngineError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
