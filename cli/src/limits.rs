//! `dividend limits`: what a key may do, changed while it is used.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::admin::Admin;
use crate::args::Global;
use crate::failure::Failure;
use crate::output::answer;
use crate::{keys, runtime};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Change limits of a key; those not named stay. Usage so far is not forgotten.
    Set {
        /// The key's id, the beginning of it, its name, or its secret.
        key: String,
        /// Calls begun per minute, or "default".
        #[arg(long, value_name = "N")]
        rpm: Option<Limit>,
        /// Tokens per minute, or "default".
        #[arg(long, value_name = "N")]
        tpm: Option<Limit>,
        /// Calls in flight at once, or "default".
        #[arg(long, value_name = "N")]
        concurrency: Option<Limit>,
    },
    /// Show the limits of a key.
    Show {
        /// The key's id, the beginning of it, its name, or its secret.
        key: String,
    },
}

/// A limit of a key's own, or the settings' default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Default,
    Own(u64),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("default", _) => Ok(Self::Default),
            (_, Ok(limit)) if limit > 0 => Ok(Self::Own(limit)),
            _ => Err("give a whole number above 0, or \"default\"".to_owned()),
        }
    }
}

impl Limit {
    fn json(self) -> Value {
        match self {
            Self::Default => Value::Null,
            Self::Own(limit) => json!(limit),
        }
    }
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = Admin::of(global)?;
        runtime::on_this_thread(async {
            let key = match self.command {
                Command::Show { key } => keys::find(&admin, &key).await?,
                Command::Set { key, rpm, tpm, concurrency } => {
                    let change = change([
                        ("requests_per_minute", rpm),
                        ("tokens_per_minute", tpm),
                        ("concurrency", concurrency),
                    ])?;
                    let id = keys::find(&admin, &key).await?["id"].clone();
                    let path = format!("/admin/keys/{}/limits", id.as_str().unwrap_or_default());
                    admin.patch(&path, &change).await?
                }
            };
            answer(global, &key, |key| table(&key["limits"]))
        })
    }
}

fn change(limits: [(&str, Option<Limit>); 3]) -> anyhow::Result<Value> {
    let named = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.json())));
    let change: Map<String, Value> = named.collect();
    if change.is_empty() {
        return Err(Failure::usage("no limit was named", "give --rpm, --tpm or --concurrency").into());
    }
    Ok(Value::Object(change))
}

fn table(limits: &Value) -> String {
    let fields = limits.as_object().into_iter().flatten();
    fields.fold(String::new(), |text, (name, limit)| format!("{text}{name:<20} {limit}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_what_was_given_and_null_is_the_default() {
        let change = change([("a", Some(Limit::Own(3))), ("b", None), ("c", Some(Limit::Default))]).unwrap();
        assert_eq!(change, json!({ "a": 3, "c": null }));
        assert!(super::change([("a", None), ("b", None), ("c", None)]).is_err());
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        assert_eq!("default".parse(), Ok(Limit::Default));
        assert_eq!("7".parse(), Ok(Limit::Own(7)));
        assert!(
            "0".parse::<Limit>().is_err() && "-1".parse::<Limit>().is_err() && "x".parse::<Limit>().is_err()
        );
    }
}
