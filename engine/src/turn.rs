//! One step of inference at a time in the whole process, first come first served: a step uses every core that inference
//! has, and two would only wait for each other.

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for the turn, which ends when the guard is dropped. For threads outside an async runtime.
pub(crate) fn wait() -> MutexGuard<'static, ()> {
    TURN.blocking_lock()
}
