//! Amounts, shares, ids, times and foreign text as a reader wants them.

use std::fmt;

use dividend_chain::{Address, B256};
use serde::Serializer;

/// Longest piece of foreign text on a page, in characters.
const MAX_TEXT: usize = 200;
/// Base units (µ$) in a dollar.
const UNITS_PER_DOLLAR: u128 = 1_000_000;
/// Pico-dollars in a base unit.
const PICO_PER_UNIT: u128 = 1_000_000;

/// An amount for JSON: a string of decimal digits, which no reader rounds.
pub fn decimal<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// An address for JSON, in its checksummed form (EIP-55).
pub fn checksummed<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// Dollars with six decimals, in two parts so that a page can dim the small change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    units: u128,
}

impl Money {
    /// An amount in base units.
    pub fn units(units: u128) -> Self {
        Self { units }
    }

    /// An amount in pico-dollars, without the fraction of a base unit.
    pub fn pico(pico: u128) -> Self {
        Self { units: pico / PICO_PER_UNIT }
    }

    /// Dollars and cents: `$1,234.56`.
    pub fn cents(&self) -> String {
        format!("${}.{:02}", grouped(self.units / UNITS_PER_DOLLAR), self.units % UNITS_PER_DOLLAR / 10_000)
    }

    /// The four decimals after the cents.
    pub fn small_change(&self) -> String {
        format!("{:04}", self.units % 10_000)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.cents(), self.small_change())
    }
}

/// Pico-dollars per token as dollars per million tokens, which is how prices are quoted.
pub fn per_million(pico_per_token: u64) -> String {
    // 1 pico-dollar per token is 1 µ$ per million tokens.
    let text = Money::units(pico_per_token.into()).to_string();
    let trimmed = text.trim_end_matches('0');
    let kept = trimmed.len().max(text.len() - 4);
    text[..kept].to_owned()
}

/// A count with its thousands apart: `1,234,567`.
pub fn grouped(count: impl Into<u128>) -> String {
    let digits = count.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of 10¹² as per cent, exact to four decimals: `12.5 %`.
pub fn percent_e12(share_e12: u64) -> String {
    let ten_thousandths = share_e12 / 1_000_000;
    let fraction = format!("{:04}", ten_thousandths % 10_000);
    let fraction = fraction.trim_end_matches('0');
    let whole = ten_thousandths / 10_000;
    if fraction.is_empty() { format!("{whole} %") } else { format!("{whole}.{fraction} %") }
}

/// A share in ppm as per cent: `12.5 %`.
pub fn percent(share_ppm: u32) -> String {
    percent_e12(u64::from(share_ppm) * 1_000_000)
}

/// The beginning and end of an id: `0x1234…cdef`.
pub fn short_id(id: B256) -> String {
    shortened(&id.to_string())
}

/// The beginning and end of an address, in its checksummed form.
pub fn short_address(address: Address) -> String {
    shortened(&address.to_string())
}

fn shortened(hex: &str) -> String {
    match (hex.get(..8), hex.get(hex.len().saturating_sub(6)..)) {
        (Some(head), Some(tail)) if hex.len() > 16 => format!("{head}…{tail}"),
        _ => hex.to_owned(),
    }
}

/// Foreign text made harmless beyond HTML's own escaping: control characters and what reorders, joins or hides
/// characters become visible boxes, and the text ends after 200 characters.
pub fn clean(text: &str) -> String {
    let mut cleaned: String =
        text.chars().take(MAX_TEXT).map(|c| if is_treacherous(c) { '\u{25a1}' } else { c }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        cleaned.push('…');
    }
    cleaned
}

/// Controls, bidirectional overrides and isolates, zero-width and joining characters, tags, and other invisibles.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Unix milliseconds as `2026-11-22 10:41:20`, in UTC.
pub fn utc(at_ms: u64) -> String {
    let seconds = at_ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Day, month and year of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_six_decimals_and_group_thousands() {
        assert_eq!(Money::units(1_234_567_890_123).to_string(), "$1,234,567.890123");
        assert_eq!(Money::units(0).to_string(), "$0.000000");
        assert_eq!(Money::pico(1_999_999).to_string(), "$0.000001");
        assert_eq!(grouped(999u32), "999");
        assert_eq!(grouped(1_000_000u32), "1,000,000");
    }

    #[test]
    fn prices_and_shares_read_as_people_quote_them() {
        assert_eq!(per_million(150_000), "$0.15");
        assert_eq!(per_million(1_000_000), "$1.00");
        assert_eq!(per_million(1), "$0.000001");
        assert_eq!(percent(1_000_000), "100 %");
        assert_eq!(percent(125_000), "12.5 %");
        assert_eq!(percent(1), "0.0001 %");
    }

    #[test]
    fn treacherous_text_shows_itself() {
        assert_eq!(clean("a\u{202e}b\u{0}\nc\u{200b}"), "a□b□□c□");
        assert_eq!(clean("modèle 模型 🦙"), "modèle 模型 🦙");
        assert_eq!(clean(&"x".repeat(500)).chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        for (at_s, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_795_344_080, "2026-11-22 10:41:20"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(at_s * 1_000), text);
        }
    }

    #[test]
    fn ids_are_short_but_recognisable() {
        assert_eq!(short_id(B256::repeat_byte(0xab)), "0xababab…ababab");
    }
}
