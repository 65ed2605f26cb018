//! Who pays for a call.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::B256;

/// Who pays for a call: an API key of the operator's own customer, or a payment channel.
///
/// Text form: `key:` or `channel:` followed by `0x` and 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Payer {
    /// A prepaid API key, named by the hash id under which it is stored; never the key itself.
    Key([u8; 32]),
    /// A payment channel, by its id in PaymentChannels.
    Channel(B256),
}

impl Payer {
    /// The 32 bytes that a receipt's `payerCommit` commits to.
    pub fn payer_key(&self) -> B256 {
        match self {
            Self::Key(id) => B256::from(*id),
            Self::Channel(id) => *id,
        }
    }

    /// `"key"` or `"channel"`, the `payer_kind` of files.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Channel(_) => "channel",
        }
    }

    /// The channel id, when a channel pays.
    pub fn channel(&self) -> Option<B256> {
        match self {
            Self::Key(_) => None,
            Self::Channel(id) => Some(*id),
        }
    }
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.kind(), self.payer_key())
    }
}

/// A text that is not a [`Payer`].
#[derive(Debug, thiserror::Error)]
#[error("payer {0:?}: expected key: or channel: followed by 0x and 64 hex digits")]
pub struct ParsePayerError(String);

impl FromStr for Payer {
    type Err = ParsePayerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParsePayerError(text.to_owned());
        let (kind, id) = text.split_once(':').ok_or_else(wrong)?;
        let id: B256 = id.parse().map_err(|_| wrong())?;
        match kind {
            "key" => Ok(Self::Key(id.0)),
            "channel" => Ok(Self::Channel(id)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for payer in [Payer::Key([7; 32]), Payer::Channel(B256::repeat_byte(9))] {
            assert_eq!(payer.to_string().parse::<Payer>().unwrap(), payer);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "key", "key:0x12", "card:0x0707070707070707070707070707070707070707070707070707070707070707"]
        {
            let error = text.parse::<Payer>().unwrap_err().to_string();
            assert!(error.contains("expected key: or channel:"), "{error}");
        }
    }
}
