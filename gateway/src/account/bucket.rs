//! Tokens per minute. A bucket of our own, because the real number is known only at the end of a call and governor
//! takes nothing back.

const MINUTE_MS: u128 = 60_000;

/// A leaky bucket: `used` drains at `limit` per minute. Pure: the time is passed in.
///
/// Usage is kept in token-milliseconds so that draining needs no rounding: one token is 60,000 of them, and `limit`
/// of them drain per millisecond.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    used: u128,
    at_ms: u64,
}

/// Why tokens were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More than the whole minute's.
    Never,
    /// Not now.
    Wait { left: u64, retry_ms: u64 },
}

impl TokenBucket {
    /// Takes `tokens`, all or none.
    pub(crate) fn take(&mut self, tokens: u64, limit: u64, now_ms: u64) -> Result<(), Refusal> {
        if tokens > limit {
            return Err(Refusal::Never);
        }
        self.drain(limit, now_ms);
        let after = self.used + u128::from(tokens) * MINUTE_MS;
        let most = u128::from(limit) * MINUTE_MS;
        if after > most {
            let retry_ms = (after - most).div_ceil(u128::from(limit));
            return Err(Refusal::Wait {
                left: self.left(limit),
                retry_ms: u64::try_from(retry_ms).unwrap_or(u64::MAX),
            });
        }
        self.used = after;
        Ok(())
    }

    /// Gives back what a call did not use.
    pub(crate) fn refund(&mut self, tokens: u64) {
        self.used = self.used.saturating_sub(u128::from(tokens) * MINUTE_MS);
    }

    /// Tokens left at `now_ms`, and milliseconds until all of `limit` is there again.
    pub(crate) fn standing(&mut self, limit: u64, now_ms: u64) -> (u64, u64) {
        self.drain(limit, now_ms);
        let reset_ms = self.used.div_ceil(u128::from(limit.max(1)));
        (self.left(limit), u64::try_from(reset_ms).unwrap_or(u64::MAX))
    }

    /// Lets pass what drained since the last look, at the limit in force. Called before a limit changes too, so that a
    /// change speaks of the future alone.
    pub(crate) fn drain(&mut self, limit: u64, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        self.used = self.used.saturating_sub(u128::from(elapsed) * u128::from(limit));
    }

    fn left(&self, limit: u64) -> u64 {
        let free = (u128::from(limit) * MINUTE_MS).saturating_sub(self.used) / MINUTE_MS;
        u64::try_from(free).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_names_the_wait_and_lets_in_after_it() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(60, 60, 0), Ok(()));
        let Err(Refusal::Wait { left: 0, retry_ms }) = bucket.take(2, 60, 500) else { panic!("must wait") };
        assert_eq!(retry_ms, 1_500);
        assert!(bucket.take(2, 60, 500 + retry_ms - 1).is_err());
        assert_eq!(bucket.take(2, 60, 500 + retry_ms), Ok(()));
        assert_eq!(bucket.take(61, 60, 1_000_000), Err(Refusal::Never));
    }

    #[test]
    fn a_refund_is_there_at_once_and_a_new_limit_keeps_the_usage() {
        let mut bucket = TokenBucket::default();
        bucket.take(100, 100, 0).expect("fits");
        bucket.refund(40);
        assert_eq!(bucket.standing(100, 0).0, 40);
        bucket.drain(100, 0);
        assert_eq!(bucket.standing(200, 0).0, 140, "60 used of 200");
        assert_eq!(bucket.standing(50, 0).0, 0, "60 used of 50");
    }

    proptest! {
        /// Whatever the order of takes, no window of a minute gives more than twice the limit (a full bucket, and
        /// what drains meanwhile), and refunds never make a bucket emptier than empty.
        #[test]
        fn never_more_than_the_limit_and_its_drain(
            steps in prop::collection::vec((0u64..5_000, 1u64..80), 1..200), limit in 80u64..200,
        ) {
            let mut bucket = TokenBucket::default();
            let mut now = 0;
            let mut granted = Vec::new();
            for (wait, tokens) in steps {
                now += wait;
                if bucket.take(tokens, limit, now).is_ok() {
                    granted.push((now, tokens));
                }
            }
            for (start, _) in &granted {
                let minute: u64 = granted.iter().filter(|(at, _)| (*start..start + 60_000).contains(at)).map(|(_, n)| n).sum();
                prop_assert!(minute <= 2 * limit);
            }
        }
    }
}
