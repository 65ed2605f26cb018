//! Text forms of rows: what a store holds must be readable by a person with `redis-cli`.

use crate::ledger::RowKey;
use crate::{Charge, Totals};

/// `<payer>/<model>`.
pub(super) fn field(row: &RowKey) -> String {
    format!("{}/{}", row.0, row.1)
}

pub(super) fn parse_field(text: &str) -> Option<RowKey> {
    let (payer, model) = text.split_once('/')?;
    Some((payer.parse().ok()?, model.parse().ok()?))
}

/// `<calls> <prompt tokens> <completion tokens> <charge in pico-dollars>`.
pub(super) fn value(totals: &Totals) -> String {
    let Totals { calls, prompt_tokens, completion_tokens, charge } = totals;
    format!("{calls} {prompt_tokens} {completion_tokens} {}", charge.0)
}

pub(super) fn parse_value(text: &str) -> Option<Totals> {
    let mut words = text.split(' ');
    let totals = Totals {
        calls: words.next()?.parse().ok()?,
        prompt_tokens: words.next()?.parse().ok()?,
        completion_tokens: words.next()?.parse().ok()?,
        charge: Charge(words.next()?.parse().ok()?),
    };
    words.next().is_none().then_some(totals)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use dividend_registry::ModelId;

    use super::*;
    use crate::Payer;

    #[test]
    fn rows_round_trip() {
        let row = (Payer::Channel(B256::repeat_byte(3)), ModelId([4; 32]));
        assert_eq!(parse_field(&field(&row)), Some(row));
        let totals =
            Totals { calls: 1, prompt_tokens: u64::MAX, completion_tokens: 0, charge: Charge(u128::MAX) };
        assert_eq!(parse_value(&value(&totals)), Some(totals));
    }

    #[test]
    fn other_texts_are_no_rows() {
        for text in ["", "1", "1 2 3", "1 2 3 4 5", "1 2 3 -4", "a b c d"] {
            assert_eq!(parse_value(text), None, "{text:?}");
        }
        assert_eq!(parse_field("key:0x00/0x00"), None);
    }
}
