//! One metered call: its id, price, opening, use and record.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use alloy::primitives::B256;
use dividend_registry::ModelId;
use serde::{Deserialize, Serialize};

use crate::Payer;

/// A call's id, which is also its receipt's: a UUIDv7, written as 32 lowercase hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub [u8; 16]);

impl CallId {
    /// A UUIDv7 (RFC 9562) of a time and 16 random bytes, of which 74 bits are used.
    pub fn new(now_ms: u64, random: [u8; 16]) -> Self {
        Self(
            uuid::Builder::from_unix_timestamp_millis(
                now_ms,
                &random[..10].try_into().expect("10 of 16 bytes"),
            )
            .into_uuid()
            .into_bytes(),
        )
    }

    /// Milliseconds since the unix epoch at which the id was made.
    pub fn unix_ms(&self) -> u64 {
        self.0[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A text that is not a [`CallId`].
#[derive(Debug, thiserror::Error)]
#[error("call id {0:?}: expected 32 lowercase hex digits")]
pub struct ParseCallIdError(String);

impl FromStr for CallId {
    type Err = ParseCallIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseCallIdError(text.chars().take(64).collect());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| wrong())?;
        Ok(Self(id))
    }
}

impl Serialize for CallId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in pico-dollars (10⁻¹² $), exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Charge(pub u128);

impl Charge {
    /// Pico-dollars.
    pub fn pico(self) -> u128 {
        self.0
    }

    /// The sum, or `None` past `u128::MAX`.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl Add for Charge {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pico-dollars", self.0)
    }
}

/// The operator's price of a model at a moment, in pico-dollars per token (1 $ per million tokens = 1_000_000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceVersion {
    /// Number of the price in the operator's list.
    pub version: u64,
    /// Per prompt token.
    pub in_pico_per_token: u64,
    /// Per output token.
    pub out_pico_per_token: u64,
}

impl PriceVersion {
    /// The exact charge. Token counts of one call fit 32 bits, so this cannot overflow.
    pub fn charge(&self, usage: Usage) -> Charge {
        let of = |tokens: u32, price: u64| u128::from(tokens) * u128::from(price);
        Charge(
            of(usage.prompt_tokens, self.in_pico_per_token)
                + of(usage.completion_tokens, self.out_pico_per_token),
        )
    }
}

/// Tokens that a call has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens prefilled.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
}

/// What is known of a call before anything is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOpening {
    /// The call's id, when the caller has made it already; `None` makes one.
    pub call: Option<CallId>,
    /// Who pays.
    pub payer: Payer,
    /// The model that serves the call, fixed here.
    pub model: ModelId,
    /// Block of the registry snapshot that routed the call.
    pub block: u64,
    /// The price, fixed here.
    pub price: PriceVersion,
    /// Tokens of the whole prompt; they are charged as they are prefilled.
    pub prompt_tokens: u32,
    /// Reserved at the payer for the worst case, in pico-dollars.
    pub hold_pico: u128,
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The model finished, or a stop sequence was met.
    Stop,
    /// The limit on output tokens was reached.
    Length,
    /// The client went away, or the guard was dropped without a reason.
    Cancelled,
    /// The engine failed.
    Error,
    /// The request's task panicked.
    Panicked,
    /// The process died; recovery closed the call with its slot's count.
    Recovered,
}

impl CloseReason {
    /// All reasons, in the order of their codes in the journal.
    pub const ALL: [Self; 6] =
        [Self::Stop, Self::Length, Self::Cancelled, Self::Error, Self::Panicked, Self::Recovered];

    /// The word used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
            Self::Panicked => "panicked",
            Self::Recovered => "recovered",
        }
    }
}

/// A closed call as the journal holds it: all that a receipt, a total or a Merkle leaf is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// The call.
    pub call: CallId,
    /// Milliseconds since the unix epoch at which it was closed.
    pub at_ms: u64,
    /// The window that was open then.
    pub window: u64,
    /// Who pays.
    pub payer: Payer,
    /// The model that served.
    pub model: ModelId,
    /// The price it was opened at.
    pub price: PriceVersion,
    /// Tokens charged.
    pub usage: Usage,
    /// `usage` at `price`.
    pub charge: Charge,
    /// Why it ended.
    pub reason: CloseReason,
    /// Random bytes that hide the payer in the receipt: `payerCommit = keccak256(payerKey ‖ salt)`.
    pub salt: B256,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_id_is_a_uuid_of_version_7_and_sorts_by_time() {
        let early = CallId::new(1_700_000_000_000, [0xff; 16]);
        let late = CallId::new(1_700_000_000_001, [0; 16]);
        assert_eq!(uuid::Uuid::from_bytes(early.0).get_version_num(), 7);
        assert_eq!(early.unix_ms(), 1_700_000_000_000);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<CallId>().unwrap(), early);
        assert_eq!(early.to_string().len(), 32);
    }

    #[test]
    fn other_ids_are_refused() {
        for text in ["", "00", "0X000000000000000000000000000000", "018BCFE568007FFFBFFFFFFFFFFFFFFF"] {
            assert!(text.parse::<CallId>().unwrap_err().to_string().contains("32 lowercase hex"));
        }
    }

    #[test]
    fn charge_is_exact_up_to_the_largest_call() {
        let price = PriceVersion { version: 1, in_pico_per_token: u64::MAX, out_pico_per_token: u64::MAX };
        let all = Usage { prompt_tokens: u32::MAX, completion_tokens: u32::MAX };
        assert_eq!(price.charge(all), Charge(2 * u128::from(u32::MAX) * u128::from(u64::MAX)));
        let price = PriceVersion { version: 1, in_pico_per_token: 3, out_pico_per_token: 7 };
        assert_eq!(price.charge(Usage { prompt_tokens: 5, completion_tokens: 11 }), Charge(15 + 77));
    }

    #[test]
    fn reasons_have_the_words_that_serde_writes() {
        for reason in CloseReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
