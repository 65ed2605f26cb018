//! The three headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dividend_chain::eip712::Voucher;
use dividend_chain::{Address, B256};
use dividend_registry::ModelId;
use http::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The x402 scheme of this protocol.
pub const SCHEME: &str = "dividend-channel";
/// Request: the payer's voucher, a [`PaymentSignature`].
pub const SIGNATURE_HEADER: &str = "payment-signature";
/// Answer with status 402: what would be needed, a [`PaymentRequired`].
pub const REQUIRED_HEADER: &str = "payment-required";
/// Answer to a paid call: a [`PaymentResponse`].
pub const RESPONSE_HEADER: &str = "payment-response";
/// Request without a voucher: the id of the channel that would pay.
pub const CHANNEL_HEADER: &str = "dividend-channel";

/// Longest header that is decoded.
const MAX_HEADER_BYTES: usize = 4_096;

/// What a voucher must promise for a call to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// Version of x402 whose headers these are.
    pub x402_version: u8,
    /// Always [`SCHEME`].
    pub scheme: String,
    /// CAIP-2 id of the chain, `eip155:<chain id>`.
    pub network: String,
    /// The token of the deposits.
    pub asset: Address,
    /// PaymentChannels, which is also the voucher's verifying contract.
    pub pay_to: Address,
    /// The channel that was named, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<B256>,
    /// The lane to sign for: the id of the model that would serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<ModelId>,
    /// What the lane has been charged so far, in pico-dollars.
    #[serde(with = "crate::pico")]
    pub served_cumulative: u128,
    /// The least `maxCumulative` with which the call would be served, in pico-dollars; 0 where that is not the problem.
    #[serde(with = "crate::pico")]
    pub max_cumulative: u128,
    /// The most that this very call can cost, in pico-dollars; 0 where it is not known yet.
    #[serde(with = "crate::pico", default)]
    pub call_maximum: u128,
    /// The least `expiry` of a voucher (unix seconds); 0 where it is not known yet.
    pub min_expiry: u64,
    /// The same problem as a word: the `code` of the body.
    #[serde(skip)]
    pub code: &'static str,
    /// What is missing, in a sentence.
    #[serde(rename = "error")]
    pub reason: String,
}

/// A voucher with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PaymentSignature {
    /// The channel that pays.
    pub channel: B256,
    /// The model that is paid for.
    pub lane: B256,
    /// Pico-dollars, in total since the channel was opened.
    #[serde(with = "crate::pico")]
    pub max_cumulative: u128,
    /// Unix seconds.
    pub expiry: u64,
    /// `r ‖ s ‖ v`, 65 bytes, `0x` and 130 hex digits.
    pub signature: dividend_chain::Bytes,
}

/// What the operator tells the payer of a call at its begin; the receipt at its end says what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentResponse {
    /// Always [`SCHEME`].
    pub scheme: String,
    /// CAIP-2 id of the chain.
    pub network: String,
    /// The call, which is also its receipt's id.
    pub call: String,
    /// The channel that pays.
    pub channel: B256,
    /// The model that is paid for.
    pub lane: ModelId,
    /// What the lane had been charged before this call, in pico-dollars.
    #[serde(with = "crate::pico")]
    pub served_cumulative: u128,
}

impl PaymentRequired {
    pub(crate) fn write_header(&self, headers: &mut HeaderMap) {
        write(headers, REQUIRED_HEADER, self);
    }

    /// Reads the header of a 402.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(header: &str) -> Result<Self, String> {
        decode(header)
    }
}

impl PaymentSignature {
    /// The message that was signed.
    pub fn voucher(&self) -> Voucher {
        Voucher {
            channel: self.channel,
            lane: self.lane,
            maxCumulative: self.max_cumulative,
            expiry: self.expiry,
        }
    }

    /// The value of the request's header.
    pub fn encode(&self) -> String {
        encode(self)
    }

    /// Reads the request's header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(header: &str) -> Result<Self, String> {
        decode(header)
    }
}

impl PaymentResponse {
    pub(crate) fn write_header(&self, headers: &mut HeaderMap) {
        write(headers, RESPONSE_HEADER, self);
    }

    /// Reads the header of an answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(header: &str) -> Result<Self, String> {
        decode(header)
    }
}

fn write(headers: &mut HeaderMap, name: &'static str, value: &impl Serialize) {
    if let Ok(value) = HeaderValue::try_from(encode(value)) {
        headers.insert(name, value);
    }
}

fn encode(value: &impl Serialize) -> String {
    STANDARD.encode(serde_json::to_vec(value).expect("these structs have string keys only"))
}

fn decode<T: DeserializeOwned>(header: &str) -> Result<T, String> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(format!("has {} bytes; at most {MAX_HEADER_BYTES} are taken", header.len()));
    }
    let bytes = STANDARD.decode(header).map_err(|error| format!("is not base64: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("is not the JSON of a payment: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voucher_survives_its_header_and_garbage_is_named() {
        let payment = PaymentSignature {
            channel: B256::repeat_byte(1),
            lane: B256::repeat_byte(2),
            max_cumulative: u128::MAX,
            expiry: u64::MAX,
            signature: vec![7; 65].into(),
        };
        assert_eq!(PaymentSignature::decode(&payment.encode()), Ok(payment));
        for (header, part) in [
            ("§", "base64"),
            ("e30=", "missing field"),
            (&STANDARD.encode(br#"{"maxCumulative":"-1"}"#), "not an amount"),
            (&"A".repeat(5_000), "at most 4096"),
        ] {
            let error = PaymentSignature::decode(header).expect_err(header);
            assert!(error.contains(part), "{error}");
        }
    }
}
