//! Amounts and addresses as text. Amounts are decimal strings in JSON over HTTP and `--json`: a JSON number loses digits
//! in readers that parse it as a double. Use with `#[serde(with = "decimal")]`.

use alloy::primitives::Address;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes the amount as a string of decimal digits.
pub fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads a string of decimal digits.
///
/// # Errors
/// If it is anything else, or above u128.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not an amount: expected decimal digits")))
}

/// Writes an address with its EIP-55 checksum. Use with `#[serde(serialize_with = "decimal::checksummed")]`.
pub fn checksummed<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}
