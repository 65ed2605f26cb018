//! What cuts across all requests. Each layer is a small `tower::Layer`; [`crate::stack`] puts them in order.

mod catch;
mod limits;
mod shed;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use catch::CatchPanic;
pub(crate) use limits::{BodyError, BodyLimits, LimitedBody, discard, read_all};
pub(crate) use shed::{Counted, Shed};
pub(crate) use trace::Trace;

use std::pin::Pin;

/// A boxed future, for layers whose cost is far below that of what they wrap.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
