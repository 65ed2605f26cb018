//! Requests that wait for a place, and which of them gets the next one.

use std::collections::VecDeque;
use std::time::Instant;

use super::fair::{Shares, TURNS_PER_OLDEST};
use super::standing::{Standing, Tenant};
use crate::Priority;

/// A tenant may have so many times as many requests inside as places are free: the dynamic threshold of Choudhury and
/// Hahne 1998, which keeps room for others without setting any aside for each.
const FREE_PLACES_FACTOR: usize = 8;

/// Those who wait. The next place goes to the tenant that has had least, and there to the most urgent request: by
/// priority, then deadline, then arrival. Every eighth goes to whoever has waited longest.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    /// In order of arrival.
    entries: VecDeque<Entry<J>>,
    /// Of tenants that have requests waiting or being computed.
    shares: Shares,
    admitted: u64,
    /// No deadline is earlier.
    earliest_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Entry<J> {
    standing: Standing,
    /// What it will be charged when it gets its place.
    tokens: usize,
    job: J,
}

impl<J> Default for Waiting<J> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), shares: Shares::default(), admitted: 0, earliest_deadline: None }
    }
}

impl<J> Waiting<J> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A request with a prompt of `tokens` comes in; those before it have lower ids.
    pub(super) fn push(&mut self, standing: Standing, tokens: usize, job: J) {
        self.shares.enter(standing.tenant);
        let earlier = |known: Instant| standing.deadline.map_or(known, |deadline| deadline.min(known));
        self.earliest_deadline = self.earliest_deadline.map(earlier).or(standing.deadline);
        self.entries.push_back(Entry { standing, tokens, job });
    }

    /// Gives a place to one of those whose priority is above `above`. Its tenant stays present until `leave`.
    pub(super) fn next(&mut self, above: Option<Priority>) -> Option<J> {
        let may = |entry: &&Entry<J>| above.is_none_or(|above| entry.standing.priority > above);
        let oldest_turn = self.admitted % TURNS_PER_OLDEST == TURNS_PER_OLDEST - 1;
        let chosen = if oldest_turn {
            self.entries.iter().find(may)
        } else {
            // The first of equals is the one that came first.
            let order = |entry: &&Entry<J>| {
                (self.shares.served(entry.standing.tenant), entry.standing.urgency(), entry.standing.id)
            };
            self.entries.iter().filter(may).min_by_key(order)
        };
        let id = chosen?.standing.id;
        let Entry { standing, tokens, job } = self.take(id)?;
        self.admitted += 1;
        self.shares.charge(standing.tenant, standing.priority, tokens);
        Some(job)
    }

    /// Lets go of one that waits.
    pub(super) fn remove(&mut self, id: u64) -> Option<J> {
        let entry = self.take(id)?;
        self.shares.leave(entry.standing.tenant);
        Some(entry.job)
    }

    /// Lets go of those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<J> {
        if self.earliest_deadline.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let entries = std::mem::take(&mut self.entries);
        let (expired, kept): (VecDeque<_>, _) =
            entries.into_iter().partition(|entry| entry.standing.expired(now));
        self.entries = kept;
        self.earliest_deadline = self.entries.iter().filter_map(|entry| entry.standing.deadline).min();
        expired.iter().for_each(|entry| self.shares.leave(entry.standing.tenant));
        expired.into_iter().map(|entry| entry.job).collect()
    }

    /// Whether so many more of `tenant` may come in while there are `free` places for those who wait or are computed.
    /// Nobody but requests without a tenant may fill them all: the last ninth is for those who have few.
    pub(super) fn may_enter(&self, tenant: Tenant, count: usize, free: usize) -> bool {
        // As the last of them finds it, when the others are in.
        let before = count.saturating_sub(1);
        let (has, free) = (self.shares.requests(tenant) + before, free.saturating_sub(before));
        free > 0 && (tenant.is_none() || has < FREE_PLACES_FACTOR.saturating_mul(free))
    }

    /// Books what was generated for a tenant that has requests inside.
    pub(super) fn charge(&mut self, tenant: Tenant, priority: Priority, tokens: usize) {
        self.shares.charge(tenant, priority, tokens);
    }

    /// One that had got its place has ended.
    pub(super) fn leave(&mut self, tenant: Tenant) {
        self.shares.leave(tenant);
    }

    /// Ids ascend, so an entry is found by bisection.
    fn take(&mut self, id: u64) -> Option<Entry<J>> {
        let place = self.entries.binary_search_by_key(&id, |entry| entry.standing.id).ok()?;
        self.entries.remove(place)
    }
}
