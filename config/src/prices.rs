//! `[prices]`: what a token costs, per track or model, and from when.

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::check::Check;
use crate::read::Section;

/// 1 $ per token; a price above it is a slip of the unit.
const HIGHEST_PICO_PER_TOKEN: u64 = 1_000_000_000_000;

/// What a token costs. A model's registered minimum is applied on top by whoever quotes a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// For every model without a rule in effect.
    pub default: Price,
    /// For one track or one model, from a time on.
    pub rule: Vec<PriceRule>,
}

/// Pico-dollars (10⁻¹² $) per token: 1 $ per million tokens is 1_000_000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Since when it is the default, in unix seconds: its version. A new price needs a new one.
    #[serde(default)]
    pub from_unix_s: u64,
    /// Per prompt token.
    pub input_pico_per_token: u64,
    /// Per generated token.
    pub output_pico_per_token: u64,
}

/// A price of one track or one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRule {
    /// A track's name, or a model id (`0x` and 64 hex digits).
    pub target: String,
    /// When it takes effect, in unix seconds; 0 is always. Several rules of a target are its versions.
    #[serde(default)]
    pub from_unix_s: u64,
    /// Per prompt token.
    pub input_pico_per_token: u64,
    /// Per generated token.
    pub output_pico_per_token: u64,
}

/// The price in effect, and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// The price.
    pub price: Price,
    /// Its version: the unix second since when it is in effect.
    pub version: u64,
}

impl Prices {
    /// The price at `now_unix_s` of the model `model_id` (`0x…`) when called through `track`, if it was. A rule for the
    /// model goes before one for the track, and that before the default.
    #[must_use]
    pub fn quote(&self, model_id: &str, track: Option<&str>, now_unix_s: u64) -> Quote {
        self.latest(model_id, now_unix_s)
            .or_else(|| self.latest(track?, now_unix_s))
            .unwrap_or(Quote { price: self.default, version: self.default.from_unix_s })
    }

    /// Whether these prices may follow `earlier` ones: a version names one price for ever, because calls are journaled with
    /// it.
    ///
    /// # Errors
    /// The price that was changed without a new version.
    pub fn check_follows(&self, earlier: &Self) -> Result<(), Problem> {
        let changed = |path: String, version: u64| Problem {
            path,
            value: version.to_string(),
            problem: "is the version of another price, by which calls were charged".to_owned(),
            remedy: "give the new price the unix second from which it holds".to_owned(),
        };
        if self.default != earlier.default && self.default.from_unix_s == earlier.default.from_unix_s {
            return Err(changed("prices.default.from_unix_s".to_owned(), self.default.from_unix_s));
        }
        for (index, rule) in self.rule.iter().enumerate() {
            let same_version = |other: &&PriceRule| {
                other.target.eq_ignore_ascii_case(&rule.target) && other.from_unix_s == rule.from_unix_s
            };
            if earlier.rule.iter().find(same_version).is_some_and(|other| other.quote() != rule.quote()) {
                return Err(changed(format!("prices.rule[{index}].from_unix_s"), rule.from_unix_s));
            }
        }
        Ok(())
    }

    fn latest(&self, target: &str, now_unix_s: u64) -> Option<Quote> {
        let in_effect =
            |rule: &&PriceRule| rule.target.eq_ignore_ascii_case(target) && rule.from_unix_s <= now_unix_s;
        self.rule.iter().filter(in_effect).max_by_key(|rule| rule.from_unix_s).map(PriceRule::quote)
    }
}

impl PriceRule {
    fn quote(&self) -> Quote {
        let price = Price {
            from_unix_s: self.from_unix_s,
            input_pico_per_token: self.input_pico_per_token,
            output_pico_per_token: self.output_pico_per_token,
        };
        Quote { price, version: self.from_unix_s }
    }
}

impl Default for Price {
    fn default() -> Self {
        Self { from_unix_s: 0, input_pico_per_token: 150_000, output_pico_per_token: 600_000 }
    }
}

impl Section for Prices {
    const NAME: &'static str = "prices";

    fn check(&self, check: &mut Check<'_>) {
        let most = HIGHEST_PICO_PER_TOKEN;
        check.between("default.input_pico_per_token", self.default.input_pico_per_token, 0, most);
        check.between("default.output_pico_per_token", self.default.output_pico_per_token, 0, most);
        for (index, rule) in self.rule.iter().enumerate() {
            let key = |name: &str| format!("rule[{index}].{name}");
            check.between(&key("input_pico_per_token"), rule.input_pico_per_token, 0, most);
            check.between(&key("output_pico_per_token"), rule.output_pico_per_token, 0, most);
            if !is_model_id(&rule.target) && !is_track_name(&rule.target) {
                check.refuse(
                    &key("target"),
                    format!("{:?}", rule.target),
                    "is neither a track's name nor a model id".to_owned(),
                    "give a name of a-z, 0-9 and '-', or 0x and 64 hex digits".to_owned(),
                );
            }
            let same = |other: &PriceRule| {
                other.from_unix_s == rule.from_unix_s && other.target.eq_ignore_ascii_case(&rule.target)
            };
            if self.rule[..index].iter().any(same) {
                check.refuse(
                    &key("from_unix_s"),
                    rule.from_unix_s,
                    format!("is a second price of {:?} for the same time", rule.target),
                    "keep one of the two".to_owned(),
                );
            }
        }
    }
}

fn is_model_id(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_track_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(plain)
}
