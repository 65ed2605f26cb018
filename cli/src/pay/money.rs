//! Dollar amounts on the command line.

use std::fmt;
use std::str::FromStr;

/// Pico-dollars in one base unit (µ$).
pub(crate) const PICO_PER_UNIT: u128 = 1_000_000;
/// Base units in one dollar.
const UNITS_PER_DOLLAR: u128 = 1_000_000;
/// Decimals of a base unit.
const DECIMALS: usize = 6;

/// An exact amount of dollars with up to six decimals, held in base units (µ$).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dollars {
    /// Base units (10⁻⁶ $).
    pub(crate) units: u128,
}

impl Dollars {
    /// The amount in pico-dollars.
    pub(crate) fn pico(self) -> u128 {
        // Amounts parsed are at most 20 digits of dollars, far below u128's limit in pico-dollars.
        self.units * PICO_PER_UNIT
    }
}

impl FromStr for Dollars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no amount of dollars: write it as 5, 0.25 or $1.50, with at most {DECIMALS} decimals"
            )
        };
        let digits = text.strip_prefix('$').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_sound = !whole.is_empty() && whole.len() <= 12 && fraction.len() <= DECIMALS;
        if !(is_sound && is_number(whole) && is_number(fraction)) || digits.ends_with('.') {
            return Err(bad());
        }
        let whole: u128 = whole.parse().map_err(|_| bad())?;
        let fraction: u128 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| bad())?;
        Ok(Self { units: whole * UNITS_PER_DOLLAR + fraction })
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.units / UNITS_PER_DOLLAR, self.units % UNITS_PER_DOLLAR)
    }
}

/// Pico-dollars as dollars, to the last digit that counts.
pub(crate) fn shown_pico(pico: u128) -> String {
    const PICO_PER_DOLLAR: u128 = PICO_PER_UNIT * UNITS_PER_DOLLAR;
    let fraction = format!("{:012}", pico % PICO_PER_DOLLAR);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", pico / PICO_PER_DOLLAR, &fraction[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact() {
        for (text, units) in [("5", 5_000_000), ("$1.50", 1_500_000), ("0.000001", 1), ("0", 0)] {
            assert_eq!(text.parse::<Dollars>().unwrap().units, units, "{text}");
        }
        assert_eq!("12.34".parse::<Dollars>().unwrap().to_string(), "$12.340000");
        assert_eq!(Dollars { units: 3 }.pico(), 3_000_000);
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_text() {
        for text in ["", "$", "-1", "1.", ".5", "1e3", "1.0000001", "1,5", "99999999999999", "0x1", " 1"] {
            let error = text.parse::<Dollars>().unwrap_err();
            assert!(error.contains(text) && error.contains("0.25"), "{error}");
        }
    }

    #[test]
    fn pico_amounts_show_every_digit_that_counts() {
        assert_eq!(shown_pico(0), "$0.00");
        assert_eq!(shown_pico(1), "$0.000000000001");
        assert_eq!(shown_pico(2_500_000_000_000), "$2.50");
    }
}
