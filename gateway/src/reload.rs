//! Settings that change while the gateway runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::settings::Settings;

/// Editors write a file in several steps; the last one is waited for.
const SETTLE: Duration = Duration::from_millis(100);

/// Reads `path` again whenever it changes and puts it in force. A file that cannot be read, or has a bad value, is
/// reported in the log and changes nothing. Ends when the gateway is gone.
///
/// `load` makes the settings of the file; the command line adds to them what the file leaves open.
///
/// # Errors
/// [`GatewayError::Watch`] if the system cannot watch the file's folder.
pub fn watch_settings(
    gateway: &Arc<Gateway>,
    path: PathBuf,
    load: impl Fn(&Path) -> Result<Settings, String> + Send + 'static,
) -> Result<(), GatewayError> {
    let failed = |problem: String| GatewayError::Watch { path: path.clone(), problem };
    let name: OsString = path.file_name().ok_or_else(|| failed("it names no file".to_owned()))?.to_owned();
    // The folder, not the file: editors replace the file, and with it what is watched.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    let mut watcher: RecommendedWatcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let ours = |event: &notify::Event| {
                !event.kind.is_access() && event.paths.iter().any(|path| path.file_name() == Some(&name))
            };
            if event.as_ref().is_ok_and(ours) {
                tell.notify_one();
            }
        })
        .map_err(|error| failed(error.to_string()))?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(|error| failed(error.to_string()))?;
    let gateway = Arc::downgrade(gateway);
    tokio::spawn(follow(watcher, changed, gateway, path, load));
    Ok(())
}

async fn follow(
    watcher: RecommendedWatcher,
    changed: Arc<Notify>,
    gateway: Weak<Gateway>,
    path: PathBuf,
    load: impl Fn(&Path) -> Result<Settings, String> + Send + 'static,
) {
    let _watcher = watcher;
    loop {
        changed.notified().await;
        while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
        let Some(gateway) = gateway.upgrade() else { return };
        let current = gateway.settings.load_full();
        let follows = |settings: Settings| match settings.prices.check_follows(&current.prices) {
            Ok(()) => Ok(settings),
            Err(problem) => Err(problem.to_string()),
        };
        match load(&path).and_then(follows) {
            Ok(settings) if settings == *current => {}
            Ok(settings) => gateway.apply(settings),
            Err(problem) => {
                tracing::error!(file = %path.display(), %problem, "settings are not taken; the old ones stay in force");
            }
        }
    }
}
