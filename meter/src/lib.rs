//! Metering: every call is written down once, durably, and everything else is derived from that.
//!
//! The **journal** ([`journal`]) is the truth: an append-only file of hash-chained records. A call is opened there
//! before anything is generated, counted in an mmapped slot while it runs ([`slots`]), and closed by a guard
//! ([`CallGuard`]) whatever ends it. From the records alone follow the running totals ([`ledger`]), the aggregate that
//! others read in Redis or in memory ([`aggregate`]), the sealed windows that settlement trusts ([`seal`]), the
//! receipts ([`receipt`]) and the audit ([`mod@audit`]).
//!
//! One process writes ([`Meter::open`] takes a lock); any number of others read the live journal without it
//! ([`journal::Reader`], [`LiveLedger`], [`audit()`], [`export()`]).
//!
//! Amounts are integers: pico-dollars (10⁻¹² $) as [`Charge`], never rounded.

pub mod aggregate;
pub mod audit;
mod call;
mod clock;
mod commit;
#[cfg(test)]
mod disk_full;
mod error;
pub mod export;
mod guard;
pub mod journal;
pub mod ledger;
mod live;
mod lock;
mod meter;
mod options;
mod payer;
pub mod receipt;
mod recovery;
mod run;
pub mod seal;
mod seals;
pub mod slots;
pub mod sumtree;

pub use audit::{AuditReport, audit, audit_with_store};
pub use call::{CallId, CallOpening, CallRecord, Charge, CloseReason, PriceVersion, Usage};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::MeterError;
pub use export::export;
pub use guard::{CallGuard, Closed};
pub use ledger::{LaneVoucher, Totals};
pub use live::LiveLedger;
pub use meter::{Health, MAX_PICO_PER_TOKEN, Meter, Operator};
pub use options::{Deployment, Durability, MeterOptions};
pub use payer::Payer;
pub use receipt::InclusionProof;
pub use recovery::Recovered;
pub use seal::Seal;
