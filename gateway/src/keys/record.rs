//! What is kept about a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::account::LimitOverrides;

/// The SHA-256 of a key's secret: its name everywhere, and the payer of its calls in the journal. 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id)?;
        Ok(Self(id))
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who goes first when calls wait for a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everybody else.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before everybody else.
    High,
}

impl From<Priority> for dividend_engine::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
        }
    }
}

/// A key's terms, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The operator's name for it; free text, not unique.
    pub name: String,
    /// The last four characters of the secret, to tell keys apart.
    pub tail: String,
    /// When it was made (unix milliseconds).
    pub created_ms: u64,
    /// All credit ever granted, in pico-dollars: a running total, so that setting it twice is harmless.
    #[serde(with = "crate::pico")]
    pub credit_pico: u128,
    /// Limits of its own.
    pub limits: LimitOverrides,
    /// Place in the queue.
    pub priority: Priority,
    /// When it was revoked (unix milliseconds). A revoked key stays in the store: the journal names it.
    pub revoked_ms: Option<u64>,
}

impl KeyRecord {
    /// A key with default limits.
    pub fn new(name: &str, created_ms: u64, credit_pico: u128) -> Self {
        Self {
            name: name.to_owned(),
            tail: String::new(),
            created_ms,
            credit_pico,
            limits: LimitOverrides::default(),
            priority: Priority::Normal,
            revoked_ms: None,
        }
    }
}

/// A change of a key's terms; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// A new name.
    pub name: Option<String>,
    /// The new running total of credit, in pico-dollars.
    pub credit_pico: Option<u128>,
    /// Limits of its own, all three; those that are `None` follow the defaults from now on.
    pub limits: Option<LimitOverrides>,
    /// A new place in the queue.
    pub priority: Option<Priority>,
    /// Revokes it, for ever.
    pub revoked_ms: Option<u64>,
}

impl KeyChange {
    pub(super) fn apply(&self, record: &KeyRecord) -> KeyRecord {
        KeyRecord {
            name: self.name.clone().unwrap_or_else(|| record.name.clone()),
            tail: record.tail.clone(),
            created_ms: record.created_ms,
            credit_pico: self.credit_pico.unwrap_or(record.credit_pico),
            limits: self.limits.unwrap_or(record.limits),
            priority: self.priority.unwrap_or(record.priority),
            revoked_ms: record.revoked_ms.or(self.revoked_ms),
        }
    }
}
