//! Settlement: sealed windows and vouchers become batches, batches become credits, credits become claims.
//!
//! The [`Settler`] reads the meter's immutable seals, signs what each payer's lane was served ([`claims`]), posts the
//! windows and redeems the vouchers on chain ([`plan`]), and sees every effect through to finality. Each step is stored
//! in its [`ledger`] before it takes effect, by one table of [`transitions`]; every effect is a cumulative total or under
//! an id that is sent once, so that a process killed anywhere goes on where it was and nothing is paid twice.
//!
//! Money: pico-dollars per lane in, base units (µ$) out; [`lanes`] is the one conversion.

pub mod books;
pub mod claims;
pub mod contributors;
pub mod control;
mod decimal;
pub mod earnings;
pub mod error;
pub mod figures;
pub mod lanes;
pub mod ledger;
pub mod onchain;
pub mod plan;
pub mod reconcile;
pub mod records;
pub mod seals;
pub mod settler;
pub mod transitions;

pub use earnings::{Earnings, LaneTotals, earnings};
pub use error::{Error, Result};
pub use lanes::Lane;
pub use onchain::OnChain;
pub use settler::{Paths, Report, Settler};
