//! Classifiers: scores against candle's operations, in any company, and files that are wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;
mod oracle;
mod scores;
mod tiny;
