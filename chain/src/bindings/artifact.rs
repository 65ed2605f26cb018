//! The committed compiler output: ABI and bytecode of each contract.

use std::sync::LazyLock;

use alloy::dyn_abi::{DynSolValue, ErrorExt};
use alloy::json_abi::JsonAbi;
use alloy::primitives::{Bytes, hex};
use serde::Deserialize;

/// A compiled contract.
#[derive(Debug, Deserialize)]
pub struct Artifact {
    abi: JsonAbi,
    bytecode: Bytes,
}

macro_rules! artifacts {
    ($($(#[$doc:meta])* $function:ident = $file:literal),+ $(,)?) => {
        impl Artifact {
            $(
                $(#[$doc])*
                pub fn $function() -> &'static Self {
                    static ARTIFACT: LazyLock<Artifact> = LazyLock::new(|| {
                        let text = include_str!(concat!("../../../contracts/abi/", $file, ".json"));
                        serde_json::from_str(text).expect(concat!("contracts/abi/", $file, ".json is compiler output"))
                    });
                    &ARTIFACT
                }
            )+

            fn all() -> Vec<&'static Self> {
                vec![$(Self::$function()),+]
            }
        }
    };
}

artifacts! {
    /// The 6-decimals ERC-20 of local chains.
    test_dollar = "TestDollar",
    /// Lineage, terms and tracks.
    lineage_registry = "LineageRegistry",
    /// Royalties, pulled by contributors.
    royalty_pool = "RoyaltyPool",
    /// Payers' channels.
    payment_channels = "PaymentChannels",
    /// The operator's channel.
    usage_ledger = "UsageLedger",
}

impl Artifact {
    /// The contract's interface.
    pub fn abi(&self) -> &JsonAbi {
        &self.abi
    }

    /// Code that deploys the contract, before its constructor's arguments.
    pub fn bytecode(&self) -> &Bytes {
        &self.bytecode
    }
}

/// A custom error of one of the contracts as `Name(value, …)`.
pub(crate) fn custom_error(data: &[u8]) -> Option<String> {
    let selector = data.get(..4)?;
    let mut errors = Artifact::all().into_iter().flat_map(|artifact| artifact.abi.errors());
    let error = errors.find(|error| error.selector() == selector)?;
    let values = error.decode_error(data).ok()?;
    let values: Vec<String> = values.body.iter().map(shown).collect();
    Some(format!("{}({})", error.name, values.join(", ")))
}

fn shown(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Address(address) => address.to_string(),
        DynSolValue::FixedBytes(word, size) => hex::encode_prefixed(&word[..*size]),
        DynSolValue::Uint(number, _) => number.to_string(),
        DynSolValue::Int(number, _) => number.to_string(),
        DynSolValue::Bool(flag) => flag.to_string(),
        DynSolValue::String(text) => format!("{text:?}"),
        other => format!("{other:?}"),
    }
}
