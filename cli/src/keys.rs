//! `dividend keys`: API keys with prepaid credit.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::admin::Admin;
use crate::args::Global;
use crate::failure::Failure;
use crate::output::answer;
use crate::pay::money::{Dollars, shown_pico};
use crate::runtime;

/// How a secret begins; its SHA-256 is the key's id.
const SECRET_PREFIX: &str = "sk-dvd-";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key. Its secret is printed once and kept nowhere.
    Create {
        /// Prepaid credit, such as 5 or 0.25.
        #[arg(long, value_name = "DOLLARS", default_value = "0")]
        credit: Dollars,
        /// A name to tell it by.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List all keys with their credit and limits.
    List,
    /// Grant a key more credit.
    Credit {
        /// Its id, the beginning of it, its name, or its secret.
        key: String,
        /// Dollars to add.
        #[arg(long, value_name = "DOLLARS")]
        add: Dollars,
    },
    /// Revoke a key for ever.
    Revoke {
        /// Its id, the beginning of it, its name, or its secret.
        key: String,
    },
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let admin = Admin::of(global)?;
        runtime::on_this_thread(async {
            match self.command {
                Command::Create { credit, name } => {
                    let key = create(&admin, &name, credit).await?;
                    answer(global, &key, |key| text(&key["key"]))
                }
                Command::List => answer(global, &admin.get("/admin/keys").await?["data"], table),
                Command::Credit { key, add } => {
                    let key = find(&admin, &key).await?;
                    let total = pico(&key["credit_pico"])? + add.pico();
                    let change = json!({ "credit_pico": total.to_string() });
                    let changed = admin.patch(&format!("/admin/keys/{}", text(&key["id"])), &change).await?;
                    answer(global, &changed, row)
                }
                Command::Revoke { key } => {
                    let key = find(&admin, &key).await?;
                    let revoked = admin.delete(&format!("/admin/keys/{}", text(&key["id"]))).await?;
                    answer(global, &revoked, |key| format!("revoked {}", text(&key["id"])))
                }
            }
        })
    }
}

/// Makes a key; the answer has its secret in `key`.
pub(crate) async fn create(admin: &Admin, name: &str, credit: Dollars) -> anyhow::Result<Value> {
    let new = json!({ "name": name, "credit_pico": credit.pico().to_string() });
    admin.post("/admin/keys", &new).await
}

/// The one key that `given` means.
pub(crate) async fn find(admin: &Admin, given: &str) -> anyhow::Result<Value> {
    let keys = admin.get("/admin/keys").await?;
    let keys = keys["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let meant: Vec<&Value> = keys.iter().filter(|key| means(given, key)).collect();
    match meant.as_slice() {
        [key] => Ok(Value::clone(key)),
        [] => {
            Err(Failure::new(format!("there is no key {:?}", hide(given)), "see `dividend keys list`").into())
        }
        several => {
            let message = format!("{given:?} means {} keys", several.len());
            Err(Failure::new(message, "give the whole id from `dividend keys list`").into())
        }
    }
}

fn means(given: &str, key: &Value) -> bool {
    let id = text(&key["id"]);
    if given.starts_with(SECRET_PREFIX) {
        return hex::encode(Sha256::digest(given.as_bytes())) == id;
    }
    !given.is_empty() && (id.starts_with(given) || key["name"] == given)
}

/// An error message is no place for a secret.
fn hide(given: &str) -> &str {
    if given.starts_with(SECRET_PREFIX) { "sk-dvd-…" } else { given }
}

fn table(keys: &Value) -> String {
    let rows: Vec<String> = keys.as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        "no keys yet; make one with `dividend keys create --credit 5`".to_owned()
    } else {
        rows.join("\n")
    }
}

fn row(key: &Value) -> String {
    let short: String = text(&key["id"]).chars().take(12).collect();
    let dollars = |field: &str| pico(&key[field]).map_or_else(|_| "?".to_owned(), shown_pico);
    let limits = &key["limits"];
    let state = if key["revoked_ms"].is_null() { "" } else { "  revoked" };
    format!(
        "{short}  {:<16}  left {} of {}  rpm {} tpm {} concurrency {}{state}",
        text(&key["name"]),
        dollars("remaining_pico"),
        dollars("credit_pico"),
        limits["requests_per_minute"],
        limits["tokens_per_minute"],
        limits["concurrency"],
    )
}

fn pico(value: &Value) -> anyhow::Result<u128> {
    text(value).parse().map_err(|error| anyhow::anyhow!("serve answered {value} for an amount: {error}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_meant_by_id_beginning_name_or_secret() {
        let secret = "sk-dvd-abc";
        let id = hex::encode(Sha256::digest(secret.as_bytes()));
        let key = json!({ "id": id, "name": "app" });
        for given in [secret, "app", &id, &id[..8]] {
            assert!(means(given, &key), "{given}");
        }
        for given in ["", "ap", "sk-dvd-other", &id[1..]] {
            assert!(!means(given, &key), "{given}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        assert_eq!(hide("sk-dvd-abc"), "sk-dvd-…");
        assert_eq!(hide("app"), "app");
    }
}
