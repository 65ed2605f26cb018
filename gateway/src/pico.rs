//! Pico-dollars over HTTP and in the key store: decimal strings, for JSON's numbers are not exact elsewhere.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(pico: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(pico)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(wrong(&text)))
}

/// Digits and nothing else: no sign, no blank, no leading `+`.
pub(crate) fn parse(text: &str) -> Option<u128> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn wrong(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    format!("{shown:?} is not an amount; give pico-dollars as a decimal string below 2^128")
}

/// The same for a field that may be missing.
pub(crate) mod option {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        super::parse(&text).map(Some).ok_or_else(|| D::Error::custom(super::wrong(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn digits_only() {
        assert_eq!(parse("340282366920938463463374607431768211455"), Some(u128::MAX));
        for bad in ["", "+1", "-1", " 1", "1.0", "0x1", "340282366920938463463374607431768211456"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
