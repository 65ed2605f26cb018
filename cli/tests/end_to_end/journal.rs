//! The journal as `dividend journal export` prints it, indexed by call.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support;

/// Opens and closes of every call.
#[derive(Debug, Default)]
pub struct Journal {
    pub opens: BTreeMap<String, Vec<Value>>,
    pub closes: BTreeMap<String, Vec<Value>>,
}

impl Journal {
    /// Exports and reads the journal of a home.
    pub async fn of(home: &Path) -> Self {
        let output = support::run(home, ["journal", "export", "--format", "jsonl"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut journal = Self::default();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let by_call = match record["type"].as_str().unwrap() {
                "open" => &mut journal.opens,
                "close" => &mut journal.closes,
                _ => continue,
            };
            by_call.entry(record["call"].as_str().unwrap().to_owned()).or_default().push(record);
        }
        journal
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
