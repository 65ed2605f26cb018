//! Where a test can stop the settler, as a kill would.

use crate::records::WindowKey;
use crate::transitions::State;
use crate::{Error, Result};

/// A moment between a persisted step and its effect, or right after an effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The ledger holds the window in this state; the effect is still to come.
    Window(WindowKey, State),
    /// The window's claims are published.
    Published(WindowKey),
    /// The ledger holds the batch in this state; the effect is still to come.
    Batch(u64, State),
    /// The sender has the intent.
    Sent(String),
}

/// Told of every [`Point`] as it is reached.
pub trait Probe: Send + Sync {
    /// An error stops the settler here, with nothing further written.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    fn reached(&self, point: &Point) -> Result<(), Error>;
}

/// Never stops.
pub struct NoProbe;

impl Probe for NoProbe {
    fn reached(&self, _: &Point) -> Result<(), Error> {
        Ok(())
    }
}
