//! The account itself, and the two things it hands out: a permit to be in flight and a hold on money and tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::header::HeaderValue;

use super::bucket::{Refusal, TokenBucket};
use super::holds::Holds;
use super::limits::Limits;
use super::requests::RequestLimiter;
use crate::error::ApiError;

/// One payer's limits and what counts against them now.
pub(crate) struct Account {
    state: Mutex<State>,
}

struct State {
    limits: Limits,
    requests: RequestLimiter,
    /// Asking for the price of a call does not count as the call: it has the same limit again.
    introductions: RequestLimiter,
    tokens: TokenBucket,
    holds: Holds,
    in_flight: u32,
}

impl Account {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let state = State {
            limits,
            requests: RequestLimiter::new(limits.requests_per_minute),
            introductions: RequestLimiter::new(limits.requests_per_minute),
            tokens: TokenBucket::default(),
            holds: Holds::default(),
            in_flight: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Puts new limits in force. Nothing that was used is forgotten, and calls in flight go on.
    pub(crate) fn set_limits(&self, limits: Limits, now_ms: u64) {
        let mut state = self.lock();
        let before = state.limits.tokens_per_minute;
        state.tokens.drain(before, now_ms);
        state.requests.set_limit(limits.requests_per_minute);
        state.introductions.set_limit(limits.requests_per_minute);
        state.limits = limits;
    }

    /// Counts one call begun and one in flight.
    ///
    /// # Errors
    /// [`ApiError::Concurrency`], [`ApiError::Requests`]; a refused call counts against neither.
    pub(crate) fn enter(self: &Arc<Self>, now_ms: u64) -> Result<(Permit, Rates), ApiError> {
        self.enter_by(now_ms, |state| &state.requests)
    }

    /// As [`Account::enter`], for a request that can only be told what a call would cost.
    pub(crate) fn enter_to_ask(self: &Arc<Self>, now_ms: u64) -> Result<(Permit, Rates), ApiError> {
        self.enter_by(now_ms, |state| &state.introductions)
    }

    fn enter_by(
        self: &Arc<Self>,
        now_ms: u64,
        limiter: impl FnOnce(&State) -> &RequestLimiter,
    ) -> Result<(Permit, Rates), ApiError> {
        let mut state = self.lock();
        let limits = state.limits;
        if state.in_flight >= limits.concurrency {
            return Err(ApiError::Concurrency { limit: limits.concurrency });
        }
        let standing = limiter(&state)
            .check()
            .map_err(|retry_ms| ApiError::Requests { limit: limits.requests_per_minute, retry_ms })?;
        state.in_flight += 1;
        let (remaining_tokens, reset_tokens_ms) = state.tokens.standing(limits.tokens_per_minute, now_ms);
        let rates = Rates {
            limits,
            remaining_requests: standing.remaining,
            reset_requests_ms: standing.reset_ms,
            remaining_tokens,
            reset_tokens_ms,
        };
        Ok((Permit { account: self.clone() }, rates))
    }

    /// Where the payer stands whose request was just refused for `reset_requests_ms`.
    pub(crate) fn rates_of_refused(&self, now_ms: u64, reset_requests_ms: u64) -> Rates {
        let mut state = self.lock();
        let limits = state.limits;
        let (remaining_tokens, reset_tokens_ms) = state.tokens.standing(limits.tokens_per_minute, now_ms);
        Rates { limits, remaining_requests: 0, reset_requests_ms, remaining_tokens, reset_tokens_ms }
    }

    /// Reserves a call's worst case: tokens of the minute, and money if `fits` agrees. `fits` gets what is already
    /// held, over all lanes and in this one, and is run under the account's lock: two calls cannot both see the same
    /// money free.
    ///
    /// # Errors
    /// [`ApiError::Tokens`], [`ApiError::TokensNever`], or whatever `fits` says.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        wanted: Wanted,
        now_ms: u64,
        fits: impl FnOnce(Held) -> Result<(), ApiError>,
    ) -> Result<Hold, ApiError> {
        let mut state = self.lock();
        let held = Held {
            total_pico: state.holds.total_pico(now_ms),
            lane_pico: state.holds.lane_pico(&wanted.lane, now_ms),
        };
        fits(held)?;
        let limit = state.limits.tokens_per_minute;
        state.tokens.take(wanted.tokens, limit, now_ms).map_err(|refusal| match refusal {
            Refusal::Never => ApiError::TokensNever { limit, wanted: wanted.tokens },
            Refusal::Wait { left, retry_ms } => {
                ApiError::Tokens { limit, wanted: wanted.tokens, left, retry_ms }
            }
        })?;
        let id = state.holds.add(wanted.pico, wanted.lane, wanted.expires_ms);
        let (left, reset_ms) = state.tokens.standing(limit, now_ms);
        Ok(Hold { account: self.clone(), id, tokens: wanted.tokens, used: 0, standing: (left, reset_ms) })
    }

    /// Pico-dollars held at `now_ms`, and calls in flight.
    pub(crate) fn in_use(&self, now_ms: u64) -> (u128, u32) {
        let mut state = self.lock();
        (state.holds.total_pico(now_ms), state.in_flight)
    }

    /// Whether anything counts against this account that a new one would not know of.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        let mut state = self.lock();
        let limit = state.limits.tokens_per_minute;
        state.in_flight == 0 && state.holds.count() == 0 && state.tokens.standing(limit, now_ms).1 == 0
    }

    /// A panic elsewhere leaves counters that are still true: every change below is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's worst case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub tokens: u64,
    pub pico: u128,
    pub lane: [u8; 32],
    pub expires_ms: u64,
}

/// What other calls of the payer hold already, in pico-dollars.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub total_pico: u128,
    pub lane_pico: u128,
}

/// One call in flight; leaving is dropping it.
pub(crate) struct Permit {
    account: Arc<Account>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.lock().in_flight -= 1;
    }
}

/// Money and tokens reserved for one call. Dropping it gives the money back and the tokens that were not used: the
/// charge itself is in the journal before that.
pub(crate) struct Hold {
    account: Arc<Account>,
    id: u64,
    tokens: u64,
    used: u64,
    standing: (u64, u64),
}

impl Hold {
    /// Says how many tokens the call has really used.
    pub(crate) fn use_tokens(&mut self, used: u64) {
        self.used = used;
    }

    /// Tokens left of the minute right after the reservation, and milliseconds until all are there again.
    pub(crate) fn standing(&self) -> (u64, u64) {
        self.standing
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.account.lock();
        state.holds.settle(self.id);
        state.tokens.refund(self.tokens.saturating_sub(self.used));
    }
}

/// The `x-ratelimit-*` headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub limits: Limits,
    pub remaining_requests: u32,
    pub reset_requests_ms: u64,
    pub remaining_tokens: u64,
    pub reset_tokens_ms: u64,
}

impl Rates {
    /// Takes the tokens' standing from a hold made since.
    pub(crate) fn after(mut self, hold: &Hold) -> Self {
        (self.remaining_tokens, self.reset_tokens_ms) = hold.standing();
        self
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let reset =
            |ms: u64| HeaderValue::try_from(format!("{ms}ms")).unwrap_or(HeaderValue::from_static("0ms"));
        headers.insert("x-ratelimit-limit-requests", self.limits.requests_per_minute.into());
        headers.insert("x-ratelimit-limit-tokens", self.limits.tokens_per_minute.into());
        headers.insert("x-ratelimit-remaining-requests", self.remaining_requests.into());
        headers.insert("x-ratelimit-remaining-tokens", self.remaining_tokens.into());
        headers.insert("x-ratelimit-reset-requests", reset(self.reset_requests_ms));
        headers.insert("x-ratelimit-reset-tokens", reset(self.reset_tokens_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(concurrency: u32) -> Arc<Account> {
        Account::new(Limits { requests_per_minute: 1_000, tokens_per_minute: 1_000, concurrency })
    }

    fn wanted(pico: u128, tokens: u64) -> Wanted {
        Wanted { tokens, pico, lane: [0; 32], expires_ms: 1_000 }
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped_and_lowering_the_limit_keeps_the_calls() {
        let account = account(2);
        let (first, _) = account.enter(0).expect("first");
        let (_second, _) = account.enter(0).expect("second");
        assert!(matches!(account.enter(0), Err(ApiError::Concurrency { limit: 2 })));
        account
            .set_limits(Limits { requests_per_minute: 1_000, tokens_per_minute: 1_000, concurrency: 1 }, 0);
        drop(first);
        assert!(matches!(account.enter(0), Err(ApiError::Concurrency { limit: 1 })));
        assert_eq!(account.in_use(0).1, 1);
    }

    #[test]
    fn a_hold_gives_back_what_was_not_used() {
        let account = account(2);
        let mut hold = account.reserve(wanted(50, 600), 0, |_| Ok(())).expect("fits");
        assert!(matches!(
            account.reserve(wanted(1, 600), 0, |_| Ok(())),
            Err(ApiError::Tokens { left: 400, .. })
        ));
        assert_eq!(account.in_use(0).0, 50);
        hold.use_tokens(100);
        drop(hold);
        assert_eq!(account.in_use(0).0, 0);
        let hold = account.reserve(wanted(1, 900), 0, |_| Ok(())).expect("100 of 1,000 are used");
        assert_eq!(hold.standing().0, 0);
    }

    #[test]
    fn money_that_does_not_fit_takes_no_tokens() {
        let account = account(2);
        let refused = account
            .reserve(wanted(5, 900), 0, |_| Err(ApiError::Budget { needed_pico: 5, remaining_pico: 4 }));
        assert!(matches!(refused, Err(ApiError::Budget { .. })));
        assert!(account.reserve(wanted(1, 1_000), 0, |_| Ok(())).is_ok());
    }
}
