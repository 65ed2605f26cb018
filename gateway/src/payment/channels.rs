//! The standing of channels that pay here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dividend_chain::B256;

use crate::account::{Account, Limits};

/// Most channels with a standing at once; a new one must wait until another has nothing in flight.
const MAX_CHANNELS: usize = 65_536;

/// Accounts of channels: made when a channel first pays, dropped when a full map needs room and they are idle.
pub(crate) struct Channels {
    accounts: Mutex<HashMap<B256, Arc<Account>>>,
    /// Of callers who name a channel without a proof that it is theirs: together they are one.
    unproven: Arc<Account>,
}

impl Channels {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { accounts: Mutex::default(), unproven: Account::new(limits) }
    }

    /// The account of a channel whose voucher was verified; `None` if the map is full of busy ones.
    pub(crate) fn account(&self, channel: B256, limits: Limits, now_ms: u64) -> Option<Arc<Account>> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&channel) {
            return Some(account.clone());
        }
        if accounts.len() >= MAX_CHANNELS {
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle(now_ms));
        }
        if accounts.len() >= MAX_CHANNELS {
            return None;
        }
        Some(accounts.entry(channel).or_insert_with(|| Account::new(limits)).clone())
    }

    /// The one account of all callers without a proof.
    pub(crate) fn unproven(&self) -> Arc<Account> {
        self.unproven.clone()
    }

    pub(crate) fn set_limits(&self, limits: Limits, now_ms: u64) {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        for account in accounts.values().chain([&self.unproven]) {
            account.set_limits(limits, now_ms);
        }
    }
}
