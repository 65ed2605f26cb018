//! Signs vouchers for one channel: checks the gateway's terms, writes the promise down, then signs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dividend_chain::eip712::{Domain, Voucher};
use dividend_chain::{B256, Key};
use dividend_gateway::payment::{PaymentRequired, PaymentResponse, PaymentSignature, SCHEME};

use super::book::{Ask, Book, Caps};
use super::refusal::Refusal;
use super::store::{Terms, save_book};

/// A voucher outlives what the gateway demands by this much, so that calls for an hour need no new expiry.
const EXPIRY_MARGIN_S: u64 = 3_600;
/// Longest life of a voucher: a withdrawal delay of a month and a window, with room.
const MAX_VALIDITY_S: u64 = 90 * 86_400;

/// Life of an introduction; clocks may differ by as much.
const INTRODUCTION_S: u64 = 120;

/// Unix seconds; passed in, so that tests choose the time.
pub(crate) type Clock = fn() -> u64;

/// The one signer of a channel.
#[derive(Debug)]
pub(crate) struct Payer {
    terms: Terms,
    key: Key,
    caps: Caps,
    clock: Clock,
    book_path: PathBuf,
    /// One promise at a time is considered, stored and signed; calls themselves run side by side.
    book: tokio::sync::Mutex<Book>,
    in_flight: Arc<InFlight>,
}

/// A paid call's place among those in flight, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    in_flight: Arc<InFlight>,
    lane: B256,
    call_pico: u128,
}

/// What calls in flight may still cost, by lane.
#[derive(Debug, Default)]
struct InFlight(Mutex<BTreeMap<B256, u128>>);

/// A signed voucher for one call.
#[derive(Debug)]
pub(crate) struct Payment {
    /// The value of `payment-signature`.
    pub(crate) header: String,
    /// What the voucher promises.
    pub(crate) max_cumulative_pico: u128,
    /// Kept until the call has ended.
    pub(crate) hold: Hold,
}

impl Payer {
    /// A signer that continues `book`, stored at `book_path`.
    pub(crate) fn new(
        terms: Terms,
        key: Key,
        caps: Caps,
        book: Book,
        book_path: PathBuf,
        clock: Clock,
    ) -> Self {
        let book = tokio::sync::Mutex::new(book);
        Self { terms, key, caps, clock, book_path, book, in_flight: Arc::default() }
    }

    /// Signs a voucher for a call, as the gateway's 402 asks for it.
    ///
    /// # Errors
    /// Terms that are not this channel's, an ask above the caps or above what the call can cost, or a disk that does not
    /// keep the promise: then nothing was signed.
    pub(crate) async fn pay(&self, required: &PaymentRequired) -> Result<Payment, Refusal> {
        let ask = self.checked(required)?;
        let expiry = self.expiry(required.min_expiry)?;
        let mut book = self.book.lock().await;
        let promise = book.consider(&ask, self.in_flight.of(ask.lane), &self.caps)?;
        let mut next = book.clone();
        next.serve(ask.lane, ask.served_pico);
        if next.sign(ask.lane, promise) {
            self.store(next.clone()).await?;
        }
        *book = next;
        let call_pico = ask.call_pico.unwrap_or(0);
        let hold = InFlight::hold(&self.in_flight, ask.lane, call_pico);
        Ok(Payment { header: self.sign(ask.lane, promise, expiry)?, max_cumulative_pico: promise, hold })
    }

    /// The value of `payment-signature` that only shows the gateway who asks: a voucher over nothing, for no lane, that is
    /// soon void.
    ///
    /// # Errors
    /// A key that does not sign.
    pub(crate) fn introduce(&self) -> Result<String, Refusal> {
        self.sign(B256::ZERO, 0, (self.clock)().saturating_add(INTRODUCTION_S))
    }

    /// Learns from the answer to a paid call.
    pub(crate) async fn learn(&self, response: &PaymentResponse) {
        if response.channel == self.terms.channel {
            self.book.lock().await.serve(response.lane.into(), response.served_cumulative);
        }
    }

    /// The gateway's terms, if they are this channel's.
    fn checked(&self, required: &PaymentRequired) -> Result<Ask, Refusal> {
        let matches = |field, found: String, expected: String| {
            if found == expected { Ok(()) } else { Err(Refusal::Terms { field, found, expected }) }
        };
        let terms = &self.terms;
        matches("scheme", required.scheme.clone(), SCHEME.to_owned())?;
        matches("network", required.network.clone(), format!("eip155:{}", terms.chain_id))?;
        matches("contract", required.pay_to.to_string(), terms.contract.to_string())?;
        matches("asset", required.asset.to_string(), terms.token.to_string())?;
        let named = |id: Option<B256>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        matches("channel", named(required.channel), terms.channel.to_string())?;
        let lane = required
            .lane
            .ok_or(Refusal::Header { header: "payment-required", problem: "it names no lane".to_owned() })?;
        Ok(Ask {
            lane: lane.into(),
            served_pico: required.served_cumulative,
            max_cumulative_pico: required.max_cumulative,
            call_pico: Some(required.call_maximum).filter(|pico| *pico > 0),
        })
    }

    fn expiry(&self, min_expiry_s: u64) -> Result<u64, Refusal> {
        let now_s = (self.clock)();
        let latest_s = now_s.saturating_add(MAX_VALIDITY_S);
        let expiry_s = min_expiry_s.max(now_s).saturating_add(EXPIRY_MARGIN_S);
        if expiry_s > latest_s { Err(Refusal::Expiry { expiry_s, latest_s }) } else { Ok(expiry_s) }
    }

    async fn store(&self, book: Book) -> Result<(), Refusal> {
        let path = self.book_path.clone();
        let stored = tokio::task::spawn_blocking(move || save_book(&path, &book)).await;
        let failed = |error: &dyn std::fmt::Display| Refusal::Store(error.to_string());
        stored.map_err(|error| failed(&error))?.map_err(|error| failed(&format!("{error:#}")))
    }

    fn sign(&self, lane: B256, promise_pico: u128, expiry_s: u64) -> Result<String, Refusal> {
        let terms = &self.terms;
        let voucher = Voucher { channel: terms.channel, lane, maxCumulative: promise_pico, expiry: expiry_s };
        let domain = Domain { chain_id: terms.chain_id, verifying_contract: terms.contract };
        let signature =
            self.key.sign(domain.digest(&voucher)).map_err(|error| Refusal::Store(error.to_string()))?;
        Ok(PaymentSignature {
            channel: voucher.channel,
            lane: voucher.lane,
            max_cumulative: voucher.maxCumulative,
            expiry: voucher.expiry,
            signature: signature.to_vec().into(),
        }
        .encode())
    }
}

impl InFlight {
    fn of(&self, lane: B256) -> u128 {
        self.lock().get(&lane).copied().unwrap_or(0)
    }

    fn hold(this: &Arc<Self>, lane: B256, call_pico: u128) -> Hold {
        let mut lanes = this.lock();
        let held = lanes.entry(lane).or_default();
        *held = held.saturating_add(call_pico);
        Hold { in_flight: this.clone(), lane, call_pico }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<B256, u128>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut lanes = self.in_flight.lock();
        if let Some(held) = lanes.get_mut(&self.lane) {
            *held = held.saturating_sub(self.call_pico);
            if *held == 0 {
                lanes.remove(&self.lane);
            }
        }
    }
}
