//! The prices in force, kept in the home: a version names one price for ever, also across restarts.

use std::path::Path;

use dividend_config::{Prices, Problem};

use crate::home;

/// Takes `prices` into force and keeps them in `file`.
///
/// # Errors
/// A price that was changed without a new version, or a file that cannot be read or written.
pub(super) fn accept(file: &Path, prices: &Prices) -> anyhow::Result<()> {
    if let Some(earlier) = home::read_json::<Prices>(file)? {
        prices.check_follows(&earlier).map_err(refused)?;
        if earlier == *prices {
            return Ok(());
        }
    }
    home::write_json(file, prices)
}

fn refused(problem: Problem) -> crate::failure::Failure {
    let Problem { path, value, problem, remedy } = problem;
    crate::failure::Failure::usage(format!("{path} = {value} {problem}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_keeps_its_price_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prices.json");
        let mut prices = Prices::default();
        accept(&file, &prices).unwrap();
        prices.default.input_pico_per_token += 1;
        let refused = accept(&file, &prices).unwrap_err().to_string();
        assert!(refused.contains("prices.default.from_unix_s = 0"), "{refused}");
        prices.default.from_unix_s = 5;
        accept(&file, &prices).unwrap();
        accept(&file, &prices).unwrap();
        assert!(accept(&file, &Prices::default()).is_ok(), "an earlier version is what it was");
    }
}
