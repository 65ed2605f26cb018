//! Who calls, and whether he may call now.

use std::sync::Arc;

use dividend_chain::eip712::Voucher;
use dividend_chain::{B256, key};
use dividend_meter::Payer;
use dividend_registry::ChannelView;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::account::{Account, Permit, Rates};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::keys::{Entry, Priority};
use crate::payment::{CHANNEL_HEADER, PaymentRequired, PaymentSignature, SCHEME, SIGNATURE_HEADER};

/// Longest life of a voucher over nothing.
const MAX_INTRODUCTION_S: u64 = 300;

/// A caller who is who he says.
pub(crate) struct Authenticated {
    pub(super) who: Who,
    account: Arc<Account>,
    pub(super) priority: Priority,
}

/// How the call would be paid.
pub(super) enum Who {
    Key(Arc<Entry>),
    /// The voucher's signature is that of the channel's signer; whether it pays for the call is seen when reserving.
    Channel(Box<SignedVoucher>),
    /// The signer is there, but has promised nothing yet: the call ends in a 402 that says what a voucher must promise.
    Introduced(Arc<ChannelView>),
    /// Named without a proof, or with a voucher that has paid before and that anybody may have read. It ends in the same
    /// 402, but counts with all others of its kind, not against the channel.
    Unproven {
        channel: Arc<ChannelView>,
        used: Option<u128>,
    },
}

pub(super) struct SignedVoucher {
    pub channel: Arc<ChannelView>,
    pub voucher: Voucher,
    pub signature: [u8; 65],
}

impl Authenticated {
    /// Reads `authorization`, `payment-signature` or `dividend-channel`, in this order: an SDK behind a paying proxy
    /// sends some API key too, so a voucher goes before a key.
    ///
    /// # Errors
    /// [`ApiError::MissingKey`], [`ApiError::WrongKey`], [`ApiError::PaymentRequired`] for a channel or signature that
    /// is not good, [`ApiError::Invalid`] for a header that cannot be read.
    pub(crate) fn of(gateway: &Gateway, headers: &HeaderMap) -> Result<Self, ApiError> {
        if let Some(header) = text(headers, SIGNATURE_HEADER)? {
            let payment = PaymentSignature::decode(header)
                .map_err(|problem| ApiError::invalid(SIGNATURE_HEADER, problem))?;
            return Self::by_voucher(gateway, &payment);
        }
        if let Some(header) = text(headers, CHANNEL_HEADER)? {
            let id = header.parse().map_err(|_| {
                ApiError::invalid(CHANNEL_HEADER, format!("is {header:?}; give 0x and 64 hex digits"))
            })?;
            return Ok(Self::unproven(gateway, channel(gateway, id)?, None));
        }
        let header = text(headers, AUTHORIZATION.as_str())?.ok_or(ApiError::MissingKey)?;
        let (scheme, key) = header.split_once(' ').ok_or(ApiError::MissingKey)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::MissingKey);
        }
        let entry = gateway.keys.authenticate(key.trim())?;
        let priority = entry.record.load().priority;
        Ok(Self { account: entry.account.clone(), who: Who::Key(entry), priority })
    }

    fn by_voucher(gateway: &Gateway, payment: &PaymentSignature) -> Result<Self, ApiError> {
        let channel = channel(gateway, payment.channel)?;
        let voucher = payment.voucher();
        let digest = gateway.meter.deployment().voucher_domain().digest(&voucher);
        let refused = |reason: String| unpaid(gateway, "voucher_signature", reason, Some(channel.id));
        let signature = <[u8; 65]>::try_from(payment.signature.as_ref())
            .map_err(|_| refused(format!("the signature has {} bytes, not 65", payment.signature.len())))?;
        let signer = key::recover(digest, &signature).map_err(|error| refused(error.to_string()))?;
        if signer != channel.signer {
            let reason =
                format!("the voucher was signed by {signer}, not by the channel's signer {}", channel.signer);
            return Err(refused(reason));
        }
        if voucher.maxCumulative > 0 && gateway.has_paid(&voucher) {
            return Ok(Self::unproven(gateway, channel, Some(voucher.maxCumulative)));
        }
        let limits = gateway.settings.load().limits;
        let account = gateway
            .channels
            .account(channel.id, limits, gateway.clock.monotonic_ms())
            .ok_or(ApiError::QueueFull { waiting: 0 })?;
        let who = if voucher.maxCumulative > 0 {
            Who::Channel(Box::new(SignedVoucher { channel, voucher, signature }))
        } else {
            check_introduction(&voucher, gateway.clock.unix_ms() / 1_000).map_err(refused)?;
            Who::Introduced(channel)
        };
        Ok(Self { who, account, priority: Priority::Normal })
    }

    fn unproven(gateway: &Gateway, channel: Arc<ChannelView>, used: Option<u128>) -> Self {
        let who = Who::Unproven { channel, used };
        Self { who, account: gateway.channels.unproven(), priority: Priority::Low }
    }

    /// Counts the call against the caller's requests per minute and calls in flight.
    ///
    /// # Errors
    /// [`ApiError::Requests`], [`ApiError::Concurrency`].
    pub(crate) fn admit(self, gateway: &Gateway) -> Result<Admitted, ApiError> {
        let now_ms = gateway.clock.monotonic_ms();
        let (permit, rates) = match self.who {
            Who::Introduced(_) => self.account.enter_to_ask(now_ms)?,
            _ => self.account.enter(now_ms)?,
        };
        Ok(Admitted { caller: self, permit, rates })
    }

    /// The payer in the meter's terms. Of an unproven channel it is only ever read about.
    pub(crate) fn payer(&self) -> Payer {
        match &self.who {
            Who::Key(entry) => entry.payer(),
            Who::Channel(signed) => Payer::Channel(signed.channel.id),
            Who::Introduced(channel) | Who::Unproven { channel, .. } => Payer::Channel(channel.id),
        }
    }

    /// Whether this is the payer itself and not somebody who only names its channel.
    pub(crate) fn is_proven(&self) -> bool {
        !matches!(self.who, Who::Unproven { .. })
    }

    /// The API key, if the caller has one.
    pub(crate) fn key(&self) -> Option<&Arc<Entry>> {
        match &self.who {
            Who::Key(entry) => Some(entry),
            Who::Channel(_) | Who::Introduced(_) | Who::Unproven { .. } => None,
        }
    }

    /// The channel that pays or would pay.
    pub(crate) fn channel(&self) -> Option<&Arc<ChannelView>> {
        match &self.who {
            Who::Key(_) => None,
            Who::Channel(signed) => Some(&signed.channel),
            Who::Introduced(channel) | Who::Unproven { channel, .. } => Some(channel),
        }
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// A voucher over nothing only shows that the signer is there. Nothing is ever redeemed with it, so it is never published,
/// and its expiry keeps a copy from serving for long.
fn check_introduction(voucher: &Voucher, now_s: u64) -> Result<(), String> {
    let latest = now_s.saturating_add(MAX_INTRODUCTION_S);
    if (now_s..=latest).contains(&voucher.expiry) {
        return Ok(());
    }
    Err(format!(
        "a voucher over nothing introduces the signer and must expire from {now_s} to {latest} (unix seconds), not at {}",
        voucher.expiry
    ))
}

/// A caller within his counted limits.
pub(crate) struct Admitted {
    pub(super) caller: Authenticated,
    pub(super) permit: Permit,
    rates: Rates,
}

impl Admitted {
    /// Where the caller stands, for the answer's headers.
    pub(crate) fn rates(&self) -> Rates {
        self.rates
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| ApiError::invalid(name, "has characters outside ASCII"))
}

/// A channel of the snapshot that pays this operator.
fn channel(gateway: &Gateway, id: B256) -> Result<Arc<ChannelView>, ApiError> {
    let snapshot = gateway.fresh_snapshot()?;
    let known = snapshot.channel(id).filter(|channel| channel.operator == gateway.operator);
    known.cloned().ok_or_else(|| {
        let reason = format!(
            "channel {id} is not open towards operator {} as of block {}; open it, or wait until its deposit is final",
            gateway.operator,
            snapshot.block().number
        );
        unpaid(gateway, "unknown_channel", reason, None)
    })
}

/// A 402 without amounts: what is wrong is not how much.
fn unpaid(gateway: &Gateway, code: &'static str, reason: String, channel: Option<B256>) -> ApiError {
    ApiError::PaymentRequired(Box::new(required(gateway, code, reason, channel)))
}

/// A 402 to be filled in.
pub(super) fn required(
    gateway: &Gateway,
    code: &'static str,
    reason: String,
    channel: Option<B256>,
) -> PaymentRequired {
    let deployment = gateway.meter.deployment();
    PaymentRequired {
        x402_version: 2,
        scheme: SCHEME.to_owned(),
        network: network(gateway),
        asset: gateway.asset,
        pay_to: deployment.payment_channels,
        channel,
        lane: None,
        served_cumulative: 0,
        max_cumulative: 0,
        call_maximum: 0,
        min_expiry: 0,
        code,
        reason,
    }
}

/// CAIP-2 id of the chain that settles.
pub(super) fn network(gateway: &Gateway) -> String {
    format!("eip155:{}", gateway.meter.deployment().chain_id)
}
