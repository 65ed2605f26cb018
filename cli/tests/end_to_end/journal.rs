//! The journal as `dividend journal export` prints it, indexed by call.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Stack;
use crate::support::client::journal;

/// Opens and closes of every call.
#[derive(Debug, Default)]
pub struct Journal {
    pub opens: BTreeMap<String, Vec<Value>>,
    pub closes: BTreeMap<String, Vec<Value>>,
}

impl Journal {
    /// Exports and reads the journal of a stack.
    pub async fn of(stack: &Stack) -> Self {
        let mut index = Self::default();
        for record in journal(stack).await {
            let by_call = match record["type"].as_str().unwrap() {
                "open" => &mut index.opens,
                "close" => &mut index.closes,
                _ => continue,
            };
            by_call.entry(record["call"].as_str().unwrap().to_owned()).or_default().push(record);
        }
        index
    }

    /// The one close of a call.
    pub fn close(&self, call: &str) -> &Value {
        match self.closes.get(call).map(Vec::as_slice) {
            Some([close]) => close,
            other => panic!("call {call} has closes {other:?}"),
        }
    }

    /// All that was charged, per model, in pico-dollars.
    pub fn charged_by_model(&self) -> BTreeMap<String, u128> {
        let mut charged = BTreeMap::new();
        for close in self.closes.values().flatten() {
            let model = close["model"].as_str().unwrap().to_owned();
            *charged.entry(model).or_default() += u128::from(close["charge_pico"].as_u64().unwrap());
        }
        charged
    }
}
