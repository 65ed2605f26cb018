//! Reads sections key by key, so that one bad value does not hide the next.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::Problem;
use crate::check::Check;

/// A section of the settings file.
pub(crate) trait Section: Default + DeserializeOwned {
    /// Its table's name.
    const NAME: &'static str;

    /// Reports values that have the right type and make no sense.
    fn check(&self, check: &mut Check<'_>);
}

/// Takes sections out of a parsed file and keeps what is wrong with them.
pub(crate) struct Reader {
    root: Table,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(crate) fn new(root: Table) -> Self {
        Self { root, known: Vec::new(), problems: Vec::new() }
    }

    /// The section `T`: its defaults, overlaid with every key that is right.
    pub(crate) fn section<T: Section>(&mut self) -> T {
        self.known.push(T::NAME);
        let table = match self.root.remove(T::NAME) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let remedy = format!("write it as a table: [{}]", T::NAME);
                self.refuse(T::NAME.to_owned(), &other, "is not a table".to_owned(), remedy);
                Table::new()
            }
        };
        let right: Table = table.into_iter().filter(|(key, value)| self.accept::<T>(key, value)).collect();
        let section: T = deserialize(right).unwrap_or_default();
        section.check(&mut Check::new(T::NAME, &mut self.problems));
        section
    }

    /// All problems, those of unknown sections last.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        for (name, value) in std::mem::take(&mut self.root) {
            let remedy = format!("remove it; the sections are {}", self.known.join(", "));
            self.refuse(name, &value, "is not a section".to_owned(), remedy);
        }
        self.problems
    }

    /// Tries one key alone; a list of tables is tried element by element.
    fn accept<T: Section>(&mut self, key: &str, value: &Value) -> bool {
        match value {
            Value::Array(items) if items.iter().any(Value::is_table) => {
                let mut right = true;
                for (index, item) in items.iter().enumerate() {
                    let alone = Value::Array(vec![item.clone()]);
                    right &= self.accept_alone::<T>(key, &alone, Some((index, item)));
                }
                right
            }
            _ => self.accept_alone::<T>(key, value, None),
        }
    }

    fn accept_alone<T: Section>(&mut self, key: &str, value: &Value, item: Option<(usize, &Value)>) -> bool {
        let alone = Table::from_iter([(key.to_owned(), value.clone())]);
        let Err(error) = deserialize::<T>(alone) else { return true };
        let inner = match item {
            None => error.path().to_string(),
            Some((index, _)) => error.path().to_string().replacen("[0]", &format!("[{index}]"), 1),
        };
        let inner = if inner.starts_with(key) { inner } else { key.to_owned() };
        let (problem, remedy) = word(error.inner().message());
        let shown = item.map_or(value, |(_, item)| item);
        self.refuse(format!("{}.{inner}", T::NAME), shown, problem, remedy);
        false
    }

    fn refuse(&mut self, path: String, value: &Value, problem: String, remedy: String) {
        self.problems.push(Problem { path, value: value.to_string(), problem, remedy });
    }
}

fn deserialize<T: DeserializeOwned>(table: Table) -> Result<T, serde_path_to_error::Error<toml::de::Error>> {
    serde_path_to_error::deserialize(Value::Table(table))
}

/// Splits serde's "what is wrong, expected what is right" in two.
fn word(message: &str) -> (String, String) {
    let message = message.trim();
    let (problem, expected) = match message.split_once(", expected ") {
        Some((problem, expected)) => (problem, expected),
        None => (message, ""),
    };
    let remedy = match expected {
        "" => "see the shipped example for this key".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "give a whole number, 0 or more".to_owned(),
        names if problem.starts_with("unknown field") => format!("remove it, or use {names}"),
        other => format!("give {other}"),
    };
    (problem.to_owned(), remedy)
}

/// Reads `address:port`, with a message that says what would be right.
pub(crate) fn listener<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<std::net::SocketAddr, D::Error> {
    let text: String = serde::Deserialize::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(
            "is not an address, expected an IP address and port such as \"127.0.0.1:7410\"",
        )
    })
}
