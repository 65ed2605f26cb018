//! Log files of children: where they end, what they last said, and how they are kept from growing for ever.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Above this size a log is set aside when its child starts.
const LOG_LIMIT_BYTES: u64 = 16 << 20;
/// How much of a log an error message quotes.
const QUOTED_BYTES: u64 = 4 << 10;
const QUOTED_LINES: usize = 12;

/// A place in a log, from which on it belongs to the present run.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    path: PathBuf,
    from: u64,
}

impl Tail {
    /// The present end of the log.
    pub(crate) fn at_end(path: &Path) -> Self {
        let from = path.metadata().map_or(0, |metadata| metadata.len());
        Self { path: path.to_owned(), from }
    }

    /// The last lines written since, each indented; empty if there are none.
    pub(crate) fn quote(&self) -> String {
        let text = self.read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let first = lines.len().saturating_sub(QUOTED_LINES);
        lines[first..].iter().fold(String::new(), |quote, line| format!("{quote}\n    {line}"))
    }

    fn read(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        // A log that was set aside meanwhile has begun anew.
        let from = if self.from > end { 0 } else { self.from };
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(QUOTED_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(QUOTED_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Sets a log aside that has grown large; the one set aside before is given up.
pub(crate) fn rotate(path: &Path) -> std::io::Result<()> {
    match path.metadata() {
        Ok(metadata) if metadata.len() > LOG_LIMIT_BYTES => {
            std::fs::rename(path, path.with_extension("log.1"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_since_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serve.log");
        std::fs::write(&log, "before\n").unwrap();
        let tail = Tail::at_end(&log);
        assert_eq!(tail.quote(), "");
        let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, format!("before\n{lines}")).unwrap();
        let quote = tail.quote();
        assert_eq!(quote.lines().count(), QUOTED_LINES + 1);
        assert!(quote.starts_with("\n    line 8") && quote.ends_with("line 19"), "{quote}");
    }

    #[test]
    fn a_large_log_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serve.log");
        File::create(&log).unwrap().set_len(LOG_LIMIT_BYTES + 1).unwrap();
        rotate(&log).unwrap();
        assert!(!log.exists() && folder.path().join("serve.log.1").exists());
    }
}
