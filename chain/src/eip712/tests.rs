//! Golden vectors shared with the contracts: a wrong type hash would make every signature worthless.

use alloy::primitives::{Bytes, FixedBytes};
use serde_json::Value;

use super::*;
use crate::{Key, key};

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value} is a string"))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value, field: &str) -> T {
    text(value, field).parse().unwrap()
}

fn voucher(m: &Value) -> Voucher {
    Voucher {
        channel: parsed(m, "channel"),
        lane: parsed(m, "lane"),
        maxCumulative: parsed(m, "maxCumulative"),
        expiry: parsed(m, "expiry"),
    }
}

fn claim(m: &Value) -> Claim {
    Claim {
        channel: parsed(m, "channel"),
        lane: parsed(m, "lane"),
        cumulative: parsed(m, "cumulative"),
        sealDigest: parsed(m, "sealDigest"),
    }
}

fn receipt(m: &Value) -> Receipt {
    Receipt {
        call: parsed::<FixedBytes<16>>(m, "call"),
        payerCommit: parsed(m, "payerCommit"),
        model: parsed(m, "model"),
        journal: parsed(m, "journal"),
        window: parsed(m, "window"),
        priceIn: parsed(m, "priceIn"),
        priceOut: parsed(m, "priceOut"),
        tokensIn: parsed(m, "tokensIn"),
        tokensOut: parsed(m, "tokensOut"),
        chargePico: parsed(m, "chargePico"),
    }
}

fn hashes<S: SolStruct>(domain: &Domain, message: &S) -> [B256; 3] {
    [type_hash(message), struct_hash(message), domain.digest(message)]
}

#[test]
fn golden_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../../fixtures/eip712.json")).unwrap();
    let domain = Domain {
        chain_id: parsed(&vectors, "chain_id"),
        verifying_contract: parsed(&vectors, "verifying_contract"),
    };
    assert_eq!(domain.separator(), parsed::<B256>(&vectors, "domain_separator"));
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 3);
    for case in cases {
        let (kind, message) = (text(case, "type"), &case["message"]);
        let [type_hash, struct_hash, digest] = match kind {
            "Voucher" => hashes(&domain, &voucher(message)),
            "Claim" => hashes(&domain, &claim(message)),
            "Receipt" => hashes(&domain, &receipt(message)),
            other => panic!("unknown type {other}"),
        };
        assert_eq!(type_hash, parsed::<B256>(&vectors["type_hashes"], kind), "{case}");
        assert_eq!(struct_hash, parsed::<B256>(case, "struct_hash"), "{case}");
        assert_eq!(digest, parsed::<B256>(case, "digest"), "{case}");
        if case.get("private_key").is_some() {
            let signer = Key::from_bytes(parsed(case, "private_key")).unwrap();
            let signature = parsed::<Bytes>(case, "signature");
            assert_eq!(signer.sign(digest).unwrap().as_slice(), signature.as_ref(), "{case}");
            assert_eq!(
                key::recover(digest, &signature).unwrap(),
                parsed::<Address>(case, "signer"),
                "{case}"
            );
        }
    }
}

#[test]
fn a_message_survives_json() {
    let voucher = Voucher {
        channel: B256::repeat_byte(1),
        lane: B256::repeat_byte(2),
        maxCumulative: u128::MAX,
        expiry: u64::MAX,
    };
    let json = serde_json::to_string(&voucher).unwrap();
    assert_eq!(serde_json::from_str::<Voucher>(&json).unwrap(), voucher);
}
