//! Payment by channel, in the manner of x402: 402 with `PAYMENT-REQUIRED`, a request with `PAYMENT-SIGNATURE`, an
//! answer with `PAYMENT-RESPONSE`. Each header is base64 of a JSON object.
//!
//! A caller who has no voucher yet sends one over nothing, which shows that he has the channel's key, or only names the
//! channel in `dividend-channel`; the 402 then says what a voucher for this very call must promise. A voucher pays for one call, and none that was ever published pays for another.

mod channels;
mod check;
mod once;
mod wire;

pub(crate) use channels::Channels;
pub(crate) use check::{Shortfall, Standing, check};
pub(crate) use once::Spent;
pub use wire::{
    CHANNEL_HEADER, PaymentRequired, PaymentResponse, PaymentSignature, REQUIRED_HEADER, RESPONSE_HEADER,
    SCHEME, SIGNATURE_HEADER,
};
