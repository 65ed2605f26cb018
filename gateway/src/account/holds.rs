//! Money reserved for calls in flight.

use std::collections::HashMap;

/// Reservations of one payer. Each lives until it is settled or until its expiry, whichever is first, so that one that
/// leaks cannot lock money up for ever. Pure: the time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    live: HashMap<u64, Reserved>,
    total_pico: u128,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reserved {
    pico: u128,
    lane: [u8; 32],
    expires_ms: u64,
}

impl Holds {
    /// Pico-dollars reserved at `now_ms`.
    pub(crate) fn total_pico(&mut self, now_ms: u64) -> u128 {
        self.expire(now_ms);
        self.total_pico
    }

    /// Pico-dollars reserved for calls of one model at `now_ms`.
    pub(crate) fn lane_pico(&mut self, lane: &[u8; 32], now_ms: u64) -> u128 {
        self.expire(now_ms);
        self.live.values().filter(|held| held.lane == *lane).map(|held| held.pico).sum()
    }

    /// Reserves `pico` and names the reservation.
    pub(crate) fn add(&mut self, pico: u128, lane: [u8; 32], expires_ms: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        self.total_pico += pico;
        self.live.insert(id, Reserved { pico, lane, expires_ms });
        id
    }

    /// Ends a reservation; nothing if it has expired.
    pub(crate) fn settle(&mut self, id: u64) {
        if let Some(held) = self.live.remove(&id) {
            self.total_pico -= held.pico;
        }
    }

    /// Number of calls that hold something.
    pub(crate) fn count(&self) -> usize {
        self.live.len()
    }

    fn expire(&mut self, now_ms: u64) {
        let total = &mut self.total_pico;
        self.live.retain(|_, held| {
            let keep = held.expires_ms > now_ms;
            if !keep {
                *total -= held.pico;
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaked_hold_expires_and_settling_it_late_changes_nothing() {
        let mut holds = Holds::default();
        let leaked = holds.add(10, [1; 32], 100);
        let kept = holds.add(5, [2; 32], 200);
        assert_eq!((holds.total_pico(99), holds.lane_pico(&[1; 32], 99)), (15, 10));
        assert_eq!((holds.total_pico(100), holds.count()), (5, 1));
        holds.settle(leaked);
        assert_eq!(holds.total_pico(100), 5);
        holds.settle(kept);
        holds.settle(kept);
        assert_eq!((holds.total_pico(100), holds.count()), (0, 0));
    }
}
