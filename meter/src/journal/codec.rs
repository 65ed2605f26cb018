//! Little-endian fields in and out of byte strings. Reading is total: too few or too many bytes are an error.

use alloy::primitives::{Address, B256};
use dividend_registry::ModelId;

use crate::{Charge, CloseReason, Payer, PriceVersion, Usage};

/// Bytes that do not hold the fields expected of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the record ends {missing} bytes too early")]
    TooShort { missing: usize },
    #[error("{extra} bytes follow the record's last field")]
    TooLong { extra: usize },
    #[error("{field} is {value}, which this version does not know")]
    Unknown { field: &'static str, value: u8 },
}

/// Reads fields from the front of a byte string.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) =
            self.0.split_first_chunk().ok_or_else(|| DecodeError::TooShort { missing: N - self.0.len() })?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bytes().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.bytes().map(u128::from_le_bytes)
    }

    pub(crate) fn b256(&mut self) -> Result<B256, DecodeError> {
        self.bytes().map(B256::new)
    }

    pub(crate) fn address(&mut self) -> Result<Address, DecodeError> {
        self.bytes().map(Address::new)
    }

    pub(crate) fn payer(&mut self) -> Result<Payer, DecodeError> {
        match self.u8()? {
            0 => self.bytes().map(Payer::Key),
            1 => self.b256().map(Payer::Channel),
            value => Err(DecodeError::Unknown { field: "payer kind", value }),
        }
    }

    pub(crate) fn model(&mut self) -> Result<ModelId, DecodeError> {
        self.bytes().map(ModelId)
    }

    pub(crate) fn price(&mut self) -> Result<PriceVersion, DecodeError> {
        Ok(PriceVersion {
            version: self.u64()?,
            in_pico_per_token: self.u64()?,
            out_pico_per_token: self.u64()?,
        })
    }

    pub(crate) fn usage(&mut self) -> Result<Usage, DecodeError> {
        Ok(Usage { prompt_tokens: self.u32()?, completion_tokens: self.u32()? })
    }

    pub(crate) fn charge(&mut self) -> Result<Charge, DecodeError> {
        self.u128().map(Charge)
    }

    pub(crate) fn reason(&mut self) -> Result<CloseReason, DecodeError> {
        let value = self.u8()?;
        let reason = CloseReason::ALL.get(usize::from(value)).copied();
        reason.ok_or(DecodeError::Unknown { field: "close reason", value })
    }

    /// Asserts that every byte was read.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TooLong { extra: self.0.len() }) }
    }
}

/// Appends fields to a byte string.
pub(crate) trait PutFields {
    fn put(&mut self, bytes: &[u8]) -> &mut Self;

    fn put_payer(&mut self, payer: &Payer) -> &mut Self {
        let kind = match payer {
            Payer::Key(_) => 0,
            Payer::Channel(_) => 1,
        };
        self.put(&[kind]).put(payer.payer_key().as_slice())
    }

    fn put_price(&mut self, price: &PriceVersion) -> &mut Self {
        self.put(&price.version.to_le_bytes())
            .put(&price.in_pico_per_token.to_le_bytes())
            .put(&price.out_pico_per_token.to_le_bytes())
    }

    fn put_usage(&mut self, usage: &Usage) -> &mut Self {
        self.put(&usage.prompt_tokens.to_le_bytes()).put(&usage.completion_tokens.to_le_bytes())
    }

    fn put_reason(&mut self, reason: CloseReason) -> &mut Self {
        self.put(&[reason as u8])
    }
}

impl PutFields for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_coded_by_its_place_in_all() {
        for (code, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(Fields(&[code as u8]).reason(), Ok(reason));
            assert_eq!(reason as usize, code);
        }
    }

    #[test]
    fn unknown_codes_are_named() {
        assert_eq!(Fields(&[9]).reason(), Err(DecodeError::Unknown { field: "close reason", value: 9 }));
        assert_eq!(Fields(&[2; 33]).payer(), Err(DecodeError::Unknown { field: "payer kind", value: 2 }));
        assert_eq!(Fields(&[0; 3]).u32(), Err(DecodeError::TooShort { missing: 1 }));
        assert_eq!(Fields(&[0; 3]).end(), Err(DecodeError::TooLong { extra: 3 }));
    }
}
