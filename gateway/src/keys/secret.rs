//! The secret of a key: random, shown once, recognised by its hash.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::KeyId;

const PREFIX: &str = "sk-dvd-";
/// Longest text that is hashed at all.
const MAX_BYTES: usize = 256;

/// An API key: `sk-dvd-` and 256 random bits in base64url. Its `Debug` does not show it.
pub struct Secret(String);

impl Secret {
    /// A new one, of the operating system's randomness.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives randomness");
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The key itself, to be shown to its owner and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The id under which it is stored.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(self.0.as_bytes()).into())
    }

    pub(super) fn tail(&self) -> String {
        tail_of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(…{})", self.tail())
    }
}

/// The id of a presented key, unless it cannot be one.
pub(super) fn id_of(presented: &str) -> Option<KeyId> {
    let plausible = presented.starts_with(PREFIX) && presented.len() <= MAX_BYTES;
    plausible.then(|| KeyId(Sha256::digest(presented.as_bytes()).into()))
}

/// The last four characters of a presented key: enough to recognise it, too little to use it.
pub(super) fn tail_of(presented: &str) -> String {
    let known = presented.strip_prefix(PREFIX).unwrap_or_default();
    let start = known.char_indices().rev().nth(3).map_or(known.len(), |(at, _)| at);
    known[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_distinct_and_not_printed() {
        let (one, other) = (Secret::generate(), Secret::generate());
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        assert_ne!(one.id(), other.id());
        assert_eq!(id_of(one.reveal()), Some(one.id()));
        assert!(!format!("{one:?}").contains(&one.reveal()[..20]));
        assert_eq!(one.tail().len(), 4);
        assert!(one.reveal().ends_with(&one.tail()));
    }

    #[test]
    fn what_cannot_be_a_key_is_not_hashed() {
        assert_eq!(id_of("sk-other"), None);
        assert_eq!(id_of(&format!("{PREFIX}{}", "x".repeat(300))), None);
        assert_eq!((tail_of("sk-dvd-ab"), tail_of("Secret1234")), (String::new(), String::new()));
    }
}
