//! What each tenant has had, so that the next turn goes to the one that has had least.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996), counted in tokens as in Sheng et al. 2024, "Fairness in serving
//! large language models": a tenant's account grows with what is computed for it; one that comes back begins where
//! the least served of those present is, so that nobody saves up for later.

use std::collections::HashMap;

use super::standing::Tenant;
use crate::Priority;

/// Of so many turns one goes to whoever has waited longest, whatever its tenant and priority: nobody starves.
pub(super) const TURNS_PER_OLDEST: u64 = 8;

/// The accounts of the tenants that have requests inside.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Tenant, Account>);

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// Tokens, weighted by priority.
    served: u64,
    /// Requests inside.
    requests: usize,
}

impl Shares {
    /// A request of `tenant` comes in.
    pub(super) fn enter(&mut self, tenant: Tenant) {
        let least = self.0.values().map(|account| account.served).min().unwrap_or(0);
        let account = self.0.entry(tenant).or_insert(Account { served: least, requests: 0 });
        account.requests += 1;
    }

    /// A request of `tenant` goes. With the last one its account is forgotten.
    pub(super) fn leave(&mut self, tenant: Tenant) {
        if let Some(account) = self.0.get_mut(&tenant) {
            account.requests = account.requests.saturating_sub(1);
            if account.requests == 0 {
                self.0.remove(&tenant);
            }
        }
    }

    /// Books `tokens` that were computed for a tenant, or will be.
    pub(super) fn charge(&mut self, tenant: Tenant, priority: Priority, tokens: usize) {
        if let Some(account) = self.0.get_mut(&tenant) {
            account.served = account.served.saturating_add(weight(priority).saturating_mul(tokens as u64));
        }
    }

    /// What a tenant has had, for comparison with others.
    pub(super) fn served(&self, tenant: Tenant) -> u64 {
        self.0.get(&tenant).map_or(0, |account| account.served)
    }

    /// Requests of a tenant that are inside.
    pub(super) fn requests(&self, tenant: Tenant) -> usize {
        self.0.get(&tenant).map_or(0, |account| account.requests)
    }

    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.0.len()
    }
}

/// What a token counts: while tenants compete, one that asks with high priority gets twice the tokens of one with normal
/// and four times those of one with low priority.
fn weight(priority: Priority) -> u64 {
    match priority {
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 4,
    }
}
