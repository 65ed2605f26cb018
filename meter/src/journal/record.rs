//! The four kinds of record, and their bytes.

use alloy::primitives::B256;
use dividend_chain::eip712::Voucher;
use dividend_registry::ModelId;

use super::codec::{DecodeError, Fields, PutFields};
use crate::{CallId, CallOpening, CallRecord, CloseReason, Payer, PriceVersion, Usage};

/// A record of the journal. Fields are encoded in the order in which they are declared; an enum is one byte.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Kind 1: a call begins.
    Open(OpenRecord),
    /// Kind 2: a call has ended. Repeats what OPEN said, so a window can be read without the one before.
    Close(CallRecord),
    /// Kind 3: a payer's promise, written before the OPEN that it pays for.
    Voucher(VoucherRecord),
    /// Kind 4: the boundary between two windows.
    Seal(SealRecord),
}

/// A call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRecord {
    /// The call.
    pub call: CallId,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who pays.
    pub payer: Payer,
    /// The model that serves.
    pub model: ModelId,
    /// Block of the registry snapshot that routed the call.
    pub block: u64,
    /// The price, fixed here.
    pub price: PriceVersion,
    /// Tokens of the whole prompt.
    pub prompt_tokens: u32,
    /// Reserved for the worst case, in pico-dollars.
    pub hold_pico: u128,
}

/// A voucher and its payer's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct VoucherRecord {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// The promise.
    pub voucher: Voucher,
    /// `r ‖ s ‖ v` of the channel's signing key.
    pub signature: [u8; 65],
}

/// Everything closed since the seal before belongs to `window`; what follows to `window + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealRecord {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// The window that ends here.
    pub window: u64,
}

impl OpenRecord {
    pub(crate) fn new(call: CallId, at_ms: u64, opening: &CallOpening) -> Self {
        let CallOpening { call: _, payer, model, block, price, prompt_tokens, hold_pico } = *opening;
        Self { call, at_ms, payer, model, block, price, prompt_tokens, hold_pico }
    }

    /// The CLOSE of this call.
    pub(crate) fn close(
        &self,
        at_ms: u64,
        window: u64,
        usage: Usage,
        reason: CloseReason,
        salt: B256,
    ) -> CallRecord {
        let Self { call, payer, model, price, .. } = *self;
        CallRecord {
            call,
            at_ms,
            window,
            payer,
            model,
            price,
            usage,
            charge: price.charge(usage),
            reason,
            salt,
        }
    }
}

/// Most bytes of a record's fields.
pub(crate) const MAX_FIELDS: usize = 256;

const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const VOUCHER: u8 = 3;
const SEAL: u8 = 4;

impl Record {
    pub(crate) fn seal(window: u64, at_ms: u64) -> Self {
        Self::Seal(SealRecord { at_ms, window })
    }

    /// Unix milliseconds at which it was written.
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Open(open) => open.at_ms,
            Self::Close(close) => close.at_ms,
            Self::Voucher(voucher) => voucher.at_ms,
            Self::Seal(seal) => seal.at_ms,
        }
    }

    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Open(_) => OPEN,
            Self::Close(_) => CLOSE,
            Self::Voucher(_) => VOUCHER,
            Self::Seal(_) => SEAL,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open(open) => open.encode(out),
            Self::Close(close) => encode_close(close, out),
            Self::Voucher(voucher) => voucher.encode(out),
            Self::Seal(seal) => {
                out.put(&seal.at_ms.to_le_bytes()).put(&seal.window.to_le_bytes());
            }
        }
    }

    pub(super) fn decode(kind: u8, fields: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields(fields);
        let record = match kind {
            OPEN => Self::Open(OpenRecord::decode(&mut fields)?),
            CLOSE => Self::Close(decode_close(&mut fields)?),
            VOUCHER => Self::Voucher(VoucherRecord::decode(&mut fields)?),
            SEAL => Self::Seal(SealRecord { at_ms: fields.u64()?, window: fields.u64()? }),
            value => return Err(DecodeError::Unknown { field: "record kind", value }),
        };
        fields.end()?;
        Ok(record)
    }
}

impl OpenRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.call.0).put(&self.at_ms.to_le_bytes()).put_payer(&self.payer).put(&self.model.0);
        out.put(&self.block.to_le_bytes()).put_price(&self.price);
        out.put(&self.prompt_tokens.to_le_bytes()).put(&self.hold_pico.to_le_bytes());
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            call: fields.bytes().map(CallId)?,
            at_ms: fields.u64()?,
            payer: fields.payer()?,
            model: fields.model()?,
            block: fields.u64()?,
            price: fields.price()?,
            prompt_tokens: fields.u32()?,
            hold_pico: fields.u128()?,
        })
    }
}

fn encode_close(close: &CallRecord, out: &mut Vec<u8>) {
    out.put(&close.call.0).put(&close.at_ms.to_le_bytes()).put(&close.window.to_le_bytes());
    out.put_payer(&close.payer).put(&close.model.0).put_price(&close.price).put_usage(&close.usage);
    out.put(&close.charge.0.to_le_bytes()).put_reason(close.reason).put(close.salt.as_slice());
}

fn decode_close(fields: &mut Fields<'_>) -> Result<CallRecord, DecodeError> {
    Ok(CallRecord {
        call: fields.bytes().map(CallId)?,
        at_ms: fields.u64()?,
        window: fields.u64()?,
        payer: fields.payer()?,
        model: fields.model()?,
        price: fields.price()?,
        usage: fields.usage()?,
        charge: fields.charge()?,
        reason: fields.reason()?,
        salt: fields.b256()?,
    })
}

impl VoucherRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let Voucher { channel, lane, maxCumulative, expiry } = &self.voucher;
        out.put(&self.at_ms.to_le_bytes()).put(channel.as_slice()).put(lane.as_slice());
        out.put(&maxCumulative.to_le_bytes()).put(&expiry.to_le_bytes()).put(&self.signature);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let at_ms = fields.u64()?;
        let (channel, lane) = (fields.b256()?, fields.b256()?);
        let voucher = Voucher { channel, lane, maxCumulative: fields.u128()?, expiry: fields.u64()? };
        Ok(Self { at_ms, voucher, signature: fields.bytes()? })
    }
}
