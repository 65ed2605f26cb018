//! One HTTP client for readiness, RPC and the admin API.

use std::sync::Once;
use std::time::Duration;

/// A client whose every request ends within `timeout`.
pub(crate) fn client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the process may have chosen the same one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Ok(reqwest::Client::builder().timeout(timeout).no_proxy().build()?)
}
