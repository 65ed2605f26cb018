//! Reserving the worst case of a call, and opening it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dividend_chain::eip712::Voucher;
use dividend_meter::{CallOpening, MeterError, Payer, Usage};
use dividend_registry::ModelId;

use super::authenticate::{Who, network, required};
use super::{Authenticated, Routed};
use crate::account::{Hold, Permit, Rates, Wanted};
use crate::backend::{Job, Prepared, Served, Work};
use crate::calls::{Answering, Call};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::payment::{PaymentResponse, SCHEME, Shortfall, Standing, check};
use crate::queue::Patience;
use crate::settings::Settings;

/// A call whose worst case is paid for.
pub(crate) struct Reserved {
    caller: Authenticated,
    permit: Permit,
    hold: Hold,
    rates: Rates,
    served: Served,
    settings: Arc<Settings>,
    prepared: Prepared,
    max_tokens: u32,
    opening: CallOpening,
}

impl Routed {
    /// Checks that prompt and answer fit the context and reserves what they can cost at most.
    ///
    /// # Errors
    /// [`ApiError::ContextExceeded`], [`ApiError::Tokens`], [`ApiError::Budget`], [`ApiError::EscrowShort`] or
    /// [`ApiError::PaymentRequired`].
    pub(crate) fn reserve(
        self,
        gateway: &Gateway,
        prepared: Prepared,
        max_tokens: Option<u32>,
    ) -> Result<Reserved, ApiError> {
        let max_tokens = match prepared.work {
            Work::Generate(_) => self.output_limit(prepared.tokens, max_tokens)?,
            Work::Embed(_) => 0,
        };
        let Self { admitted, target, settings } = self;
        let rates = admitted.rates();
        let (caller, permit) = (admitted.caller, admitted.permit);
        if caller.key().is_some() && target.snapshot.escrow().total_owed_units() > 0 {
            return Err(ApiError::EscrowShort);
        }
        let choices = u32::try_from(prepared.choices()).unwrap_or(u32::MAX);
        let worst =
            Usage { prompt_tokens: prepared.tokens, completion_tokens: max_tokens.saturating_mul(choices) };
        let pico = target.price.charge(worst).pico();
        let now_ms = gateway.clock.monotonic_ms();
        let wanted = Wanted {
            tokens: u64::from(worst.prompt_tokens) + u64::from(worst.completion_tokens),
            pico,
            lane: target.model.id.0,
            // Waiting for a place comes on top: a hold must not expire under a call that still runs.
            expires_ms: now_ms
                .saturating_add(settings.gateway.hold_expiry_ms)
                .saturating_add(settings.gateway.queue_wait_ms),
        };
        let hold = caller
            .account()
            .reserve(wanted, now_ms, |held| pays(gateway, &caller, target.model.id, held, pico))?;
        let opening = CallOpening {
            call: None,
            payer: caller.payer(),
            model: target.model.id,
            block: target.snapshot.block().number,
            price: target.price,
            prompt_tokens: prepared.tokens,
            hold_pico: pico,
        };
        let rates = rates.after(&hold);
        Ok(Reserved {
            caller,
            permit,
            hold,
            rates,
            served: target.served,
            settings,
            prepared,
            max_tokens,
            opening,
        })
    }

    /// The caller's limit or the default, as far as the context allows the latter.
    fn output_limit(&self, prompt: u32, asked: Option<u32>) -> Result<u32, ApiError> {
        let context = self.target.served.backend.context_length();
        let left = context.saturating_sub(prompt);
        let output = asked.unwrap_or_else(|| self.settings.gateway.default_max_tokens.min(left).max(1));
        if output > left { Err(ApiError::ContextExceeded { prompt, output, context }) } else { Ok(output) }
    }
}

/// Whether the payer can pay `pico` more than what he was charged and what he holds. Runs under his account's lock; a
/// call that closes meanwhile is charged before its hold is freed, so it may count twice here but never not at all.
fn pays(
    gateway: &Gateway,
    caller: &Authenticated,
    model: ModelId,
    held: crate::account::Held,
    pico: u128,
) -> Result<(), ApiError> {
    let meter = &gateway.meter;
    let (channel, signed) = match &caller.who {
        Who::Key(entry) => {
            let spent = meter.payer_total(entry.payer()).pico();
            let credit_pico = entry.record.load().credit_pico;
            let remaining_pico = credit_pico.saturating_sub(spent).saturating_sub(held.total_pico);
            return if pico <= remaining_pico {
                Ok(())
            } else {
                Err(ApiError::Budget { needed_pico: pico, remaining_pico })
            };
        }
        Who::Channel(signed) => (&signed.channel, Some(signed)),
        Who::Introduced(channel) | Who::Unproven { channel, .. } => (channel, None),
    };
    let settings = gateway.settings.load();
    let closed_by_ms = gateway
        .clock
        .unix_ms()
        .saturating_add(settings.gateway.queue_wait_ms)
        .saturating_add(settings.gateway.request_timeout_ms);
    let standing = Standing {
        channel,
        lane: model,
        lane_served_pico: meter.lane_total(caller.payer(), model).charge.pico(),
        channel_served_pico: meter.payer_total(caller.payer()).pico(),
        held,
        worst_pico: pico,
        sealed_by_ms: meter.sealed_by_ms(closed_by_ms),
    };
    let lane = (channel.id, model.into());
    let journaled = gateway.journaled_pico(channel.id, model.into());
    let needed_pico = standing.needed_pico().max(gateway.spent.fresh(lane, journaled));
    let paid = signed.map(|signed| {
        let found = signed.voucher.maxCumulative;
        covers(gateway, &signed.voucher, &standing)?;
        let shortest = gateway.spent.shortest_above(lane, journaled, found);
        if let Some(expiry) = shortest.filter(|expiry| *expiry < standing.needed_expiry_s()) {
            return Err(Shortfall::Expiry { expiry, needed: standing.needed_expiry_s() });
        }
        let is_first = gateway.spent.take(lane, journaled, found, signed.voucher.expiry);
        if is_first { Ok(()) } else { Err(Shortfall::Used { found, needed: needed_pico }) }
    });
    let (code, reason) = match paid {
        Some(Ok(())) => return Ok(()),
        Some(Err(shortfall)) => (shortfall.code(), shortfall.to_string()),
        None => unsigned(&caller.who, needed_pico),
    };
    let mut required = required(gateway, code, reason, Some(channel.id));
    required.lane = Some(model);
    required.served_cumulative = standing.lane_served_pico;
    required.max_cumulative = needed_pico;
    required.call_maximum = pico;
    required.min_expiry = standing.needed_expiry_s();
    Err(ApiError::PaymentRequired(Box::new(required)))
}

/// What is missing of a call without a voucher that could pay.
fn unsigned(who: &Who, needed: u128) -> (&'static str, String) {
    match who {
        Who::Unproven { used: Some(found), .. } => {
            let used = Shortfall::Used { found: *found, needed };
            (used.code(), used.to_string())
        }
        _ => ("voucher_missing", "no voucher was sent; sign one as this answer's header says".to_owned()),
    }
}

/// Checks the voucher that will be redeemed for the call: the one that came with it, or the lane's highest if that came
/// earlier, for vouchers of concurrent calls overtake each other.
fn covers(gateway: &Gateway, voucher: &Voucher, standing: &Standing<'_>) -> Result<(), Shortfall> {
    let lane = ModelId::from(voucher.lane);
    if lane != standing.lane {
        return Err(Shortfall::Lane { found: lane, expected: standing.lane });
    }
    match gateway.meter.highest_voucher(voucher.channel, voucher.lane) {
        Some(highest) if highest.voucher.maxCumulative > voucher.maxCumulative => {
            check(&highest.voucher, standing)
        }
        _ => check(voucher, standing),
    }
}

impl Reserved {
    /// Where the caller stands, for the answer's headers.
    pub(crate) fn rates(&self) -> Rates {
        self.rates
    }

    /// Waits for a place, writes voucher and OPEN to the journal, and starts the computation.
    ///
    /// # Errors
    /// [`ApiError::QueueFull`], [`ApiError::QueueTimeout`], [`ApiError::Unavailable`] if the journal or the backend
    /// take no call. Nothing is charged then.
    pub(crate) async fn open(self, gateway: &Arc<Gateway>) -> Result<Call, ApiError> {
        let section = &self.settings.gateway;
        let patience = Patience { calls: section.queue_calls as usize, wait_ms: section.queue_wait_ms };
        let place = self.served.queue.enter(self.caller.priority, patience).await?;
        if let Who::Channel(signed) = &self.caller.who {
            let journaled = gateway.meter.journal_voucher(signed.voucher.clone(), signed.signature);
            journaled.map_err(unmetered)?;
        }
        let paid = self.payment_standing(gateway);
        let guard = gateway.meter.open_call(self.opening).map_err(unmetered)?;
        // Vectors are one answer.
        let (choices, tools) = (self.prepared.choices().max(1), self.prepared.tools);
        let job = Job {
            prepared: self.prepared,
            max_tokens: self.max_tokens,
            priority: self.caller.priority.into(),
            tenant: tenant(self.opening.payer),
            deadline: Instant::now() + Duration::from_millis(section.request_timeout_ms),
        };
        let generation = self.served.backend.submit(job).map_err(ApiError::from)?;
        let payment = paid.map(|response| PaymentResponse { call: guard.id().to_string(), ..response });
        let answer = Answering { generation, choices, tools };
        Ok(Call::new(gateway.clone(), answer, guard, self.hold, place, self.permit, payment))
    }

    /// The `PAYMENT-RESPONSE` but for the call's id, read before the call can change it.
    fn payment_standing(&self, gateway: &Gateway) -> Option<PaymentResponse> {
        let Who::Channel(signed) = &self.caller.who else { return None };
        Some(PaymentResponse {
            scheme: SCHEME.to_owned(),
            network: network(gateway),
            call: String::new(),
            channel: signed.channel.id,
            lane: self.opening.model,
            served_cumulative: gateway.meter.lane_total(self.opening.payer, self.opening.model).charge.pico(),
        })
    }
}

/// A payer as the engine tells them apart: the beginning of a hash, which nobody can choose to be another's.
fn tenant(payer: Payer) -> u64 {
    u64::from_be_bytes(*payer.payer_key().first_chunk().expect("32 bytes are at least 8"))
}

/// No call is served that cannot be written down.
fn unmetered(error: MeterError) -> ApiError {
    tracing::error!(%error, "a call was refused because it cannot be metered");
    if error.refuses_calls() {
        let reason = "its calls cannot be metered at the moment".to_owned();
        ApiError::Unavailable { model: "asked for".to_owned(), reason }
    } else {
        ApiError::internal(error)
    }
}
