//! The settings file that a new home begins with.

use crate::failure::OrFail;
use crate::home::Home;

/// A local chain has a block a second and nobody to wait for: its delays are seconds and minutes.
const LOCAL: &str = "\
# Settings of this home. What is not here has its default; config/settings.example.toml shows every key.
# Ports, RPC and Redis are given by `dividend up` and go before this file. Limits and prices are read again on change.

[chain]
withdrawal_delay_s = 1_400
withdrawal_window_s = 3_600
max_snapshot_age_ms = 30_000

[meter]
window_ms = 600_000

[settlement]
batch_age_ms = 2_000
poll_ms = 250
";

/// Writes the settings of a local stack into a home that has none.
pub(crate) fn write_local_settings(home: &Home) -> anyhow::Result<()> {
    let file = home.settings();
    if file.exists() {
        return Ok(());
    }
    std::fs::write(&file, LOCAL)
        .or_fail(format!("cannot write {}", file.display()), "check the folder's permissions")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_new_homes_settings_are_right() {
        dividend_config::Settings::parse(super::LOCAL).unwrap();
    }
}
