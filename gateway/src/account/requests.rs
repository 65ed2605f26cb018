//! Requests per minute, by governor.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, QuantaClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>;

/// A limiter whose limit can change without forgetting what was used of it.
pub(crate) struct RequestLimiter<C: Clock = QuantaClock> {
    limiter: Limiter<C>,
    limit: NonZeroU32,
    clock: C,
}

/// What the headers say after a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestStanding {
    pub remaining: u32,
    /// Until the whole limit is there again.
    pub reset_ms: u64,
}

impl RequestLimiter {
    pub(crate) fn new(limit: u32) -> Self {
        Self::with_clock(limit, QuantaClock::default())
    }
}

impl<C: Clock + Clone> RequestLimiter<C> {
    fn with_clock(limit: u32, clock: C) -> Self {
        let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
        Self { limiter: limiter(limit, &clock), limit, clock }
    }

    /// Counts a request. A refused one is not counted.
    ///
    /// # Errors
    /// Milliseconds until one would be let in.
    pub(crate) fn check(&self) -> Result<RequestStanding, u64> {
        match self.limiter.check() {
            Ok(snapshot) => {
                let remaining = snapshot.remaining_burst_capacity();
                let used = u64::from(self.limit.get() - remaining.min(self.limit.get()));
                Ok(RequestStanding {
                    remaining,
                    reset_ms: (used * 60_000).div_ceil(u64::from(self.limit.get())),
                })
            }
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now()).as_nanos().div_ceil(1_000_000);
                Err(u64::try_from(wait).unwrap_or(u64::MAX).max(1))
            }
        }
    }

    /// Changes the limit; what was used of the old one is used of the new one.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
        if limit == self.limit {
            return;
        }
        let used = match self.limiter.check() {
            // The probe itself took one.
            Ok(snapshot) => self.limit.get().saturating_sub(snapshot.remaining_burst_capacity() + 1),
            Err(_) => self.limit.get(),
        };
        let fresh = limiter(limit, &self.clock);
        if let Some(used) = NonZeroU32::new(used.min(limit.get())) {
            let taken = fresh.check_n(used);
            debug_assert!(matches!(taken, Ok(Ok(_))), "a fresh limiter has its whole burst");
        }
        self.limiter = fresh;
        self.limit = limit;
    }
}

fn limiter<C: Clock + Clone>(limit: NonZeroU32, clock: &C) -> Limiter<C> {
    let quota = Quota::with_period(Duration::from_secs(60) / limit.get())
        .unwrap_or_else(|| Quota::per_minute(limit))
        .allow_burst(limit);
    RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware::<StateInformationMiddleware>()
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn the_limit_holds_and_comes_back() {
        let clock = FakeRelativeClock::default();
        let limiter = RequestLimiter::with_clock(3, clock.clone());
        assert_eq!(limiter.check(), Ok(RequestStanding { remaining: 2, reset_ms: 20_000 }));
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_ok());
        let wait = limiter.check().expect_err("three were taken");
        assert_eq!(wait, 20_000);
        clock.advance(Duration::from_millis(wait));
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_err());
    }

    #[test]
    fn a_changed_limit_keeps_what_was_used() {
        let clock = FakeRelativeClock::default();
        let mut limiter = RequestLimiter::with_clock(10, clock.clone());
        for _ in 0..4 {
            limiter.check().expect("within 10");
        }
        limiter.set_limit(6);
        assert_eq!(limiter.check().expect("two are left").remaining, 1);
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_err(), "six were used");
        limiter.set_limit(8);
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_err(), "raising by two gives two");
        limiter.set_limit(2);
        assert!(limiter.check().is_err());
    }
}
