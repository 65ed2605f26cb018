//! The journal: an append-only sequence of hash-chained records in segment files.
//!
//! # Format, version 1
//! Integers are little-endian. A journal is the concatenation of its segments; an *offset* counts bytes from the start of
//! the first. A segment is the file `<offset of its first byte, 20 digits>.journal`: a header, then frames.
//!
//! | header | bytes |
//! |---|---|
//! | magic `DVDJRNL1` | 8 |
//! | journal id | 32 |
//! | chain id, UsageLedger, PaymentChannels | 8 + 20 + 20 |
//! | time of the journal's beginning, unix ms | 8 |
//! | offset of the segment | 8 |
//! | chain hash before the segment's first record | 32 |
//! | CRC-32C of the above | 4 |
//!
//! A frame is `length of the body: u32`, `CRC-32C of length and body: u32`, body. A body is `version: u8 = 1`, `kind: u8`,
//! `chain hash of the record before: 32 bytes`, then the fields of its kind ([`Record`]). A record's chain hash is the
//! SHA-256 of its body; the first record follows the SHA-256 of the first header (without its CRC).
//!
//! A torn tail, bytes after the last whole record with no whole record behind them, is what a death in the middle of a
//! write leaves, and is cut when the writer opens. Damage anywhere else is an error: it is never cut or skipped.

mod codec;
mod error;
mod frame;
mod header;
mod reader;
mod record;
mod writer;

pub use error::JournalError;
pub use header::Header;
pub use reader::{Entry, Reader};
pub use record::{OpenRecord, Record, SealRecord, VoucherRecord};
pub use writer::{Span, Writer};

/// Name of the journal's folder in a meter's directory.
pub(crate) const JOURNAL_DIR: &str = "journal";
