//! An API key with credit for first steps.

use crate::admin::Admin;
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::keys;
use crate::pay::money::Dollars;

/// 100 $.
const CREDIT: Dollars = Dollars { units: 100_000_000 };

/// Makes the home's demo key, unless it has one.
pub(crate) async fn provide(home: &Home, admin_url: String) -> anyhow::Result<()> {
    let file = home.demo_key();
    if file.exists() {
        return Ok(());
    }
    let admin = Admin::at(home, admin_url)?;
    let created = keys::create(&admin, "demo", CREDIT).await?;
    let secret = created["key"].as_str();
    let secret = secret.ok_or_else(|| Failure::new("serve made a key without a secret", "see its log"))?;
    home::write_secret(&file, secret)
}
