//! One payer's standing while the gateway runs: its limits and what is held or in flight against them.
//!
//! What was *spent* is not here: the meter's journal is the truth of that. What is here may be lost at a restart
//! without harm, for at a restart nothing is in flight.

mod bucket;
mod holds;
mod limits;
mod permit;
mod requests;
#[cfg(test)]
mod tests;

pub use limits::{LimitOverrides, Limits};
pub(crate) use permit::{Account, Held, Hold, Permit, Rates, Wanted};
