//! What can be wrong with a settings file, worded for the person who wrote it.

use std::fmt;
use std::path::PathBuf;

/// One bad value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key, such as `gateway.listen` or `prices.rule[1].from_unix_s`.
    pub path: String,
    /// The value found, as TOML writes it.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}\n    remedy: {}", self.path, self.value, self.problem, self.remedy)
    }
}

/// Why settings could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("cannot read settings {}: {source}\n    remedy: create the file or name another one", path.display())]
    Read {
        /// The file named.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The text is not TOML; the message names line and column.
    #[error("settings are not TOML: {0}    remedy: correct the line shown")]
    Syntax(String),
    /// Every bad value of the file, in the order of the sections.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

impl SettingsError {
    /// The bad values, if the file could be read as TOML.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => problems,
            Self::Read { .. } | Self::Syntax(_) => &[],
        }
    }
}

fn list(problems: &[Problem]) -> String {
    let count = problems.len();
    let noun = if count == 1 { "value" } else { "values" };
    problems
        .iter()
        .fold(format!("{count} bad {noun} in the settings"), |text, problem| format!("{text}\n  {problem}"))
}
