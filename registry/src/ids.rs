//! Ids of models and tracks.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolValue;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest piece of foreign text that an error repeats.
const MAX_SHOWN: usize = 80;

macro_rules! bytes32_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "B256", into = "B256")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id as the contracts' `bytes32`.
            pub fn as_b256(self) -> B256 {
                B256::from(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.as_b256())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 64);
                digits
                    .and_then(|digits| digits.parse::<B256>().ok())
                    .map(Self::from)
                    .ok_or_else(|| Error::BadId { text: shown(text) })
            }
        }

        impl From<B256> for $name {
            fn from(value: B256) -> Self {
                Self(value.0)
            }
        }

        impl From<$name> for B256 {
            fn from(value: $name) -> Self {
                B256::from(value.0)
            }
        }
    };
}

bytes32_id! {
    /// A node of the lineage graph: one registered model. `0x` and 64 hex digits as text.
    ModelId
}

bytes32_id! {
    /// A track, the line of champions behind one public name. `0x` and 64 hex digits as text.
    TrackId
}

impl TrackId {
    /// The id that the contract gives to the track called `name`.
    pub fn of_name(name: &str) -> Self {
        Self(keccak256(name.as_bytes()).0)
    }

    /// The id of the row that pays the track's verifiers, as the contract computes it.
    pub fn pot(self) -> ModelId {
        let encoded = ("verifiers", self.as_b256()).abi_encode_params();
        ModelId(keccak256(encoded).0)
    }
}

/// `text` cut to a length that is safe to print.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).flat_map(char::escape_default).collect()
}
