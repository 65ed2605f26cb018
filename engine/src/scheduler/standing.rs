//! What a request's turn depends on.

use std::cmp::Reverse;
use std::time::Instant;

use crate::{GenerateRequest, Priority};

/// The key by which requests of one caller are told from those of others; all without one are one caller's.
pub(crate) type Tenant = Option<u64>;

/// Who asks, how urgently, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Ascends with arrival.
    pub(crate) id: u64,
    pub(crate) tenant: Tenant,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Instant>,
}

impl Standing {
    pub(super) fn of(id: u64, request: &GenerateRequest) -> Self {
        Self { id, tenant: request.tenant, priority: request.priority, deadline: request.deadline }
    }

    /// True once nobody wants the answer any more.
    pub(super) fn expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Order within a tenant: by priority, then the earliest deadline. None is later than any.
    pub(super) fn urgency(&self) -> impl Ord + use<> {
        (Reverse(self.priority), self.deadline.is_none(), self.deadline)
    }

    /// Who keeps his memory when there is not enough for all: the largest by priority, then the first to arrive.
    ///
    /// Each time that a request has been set aside counts as one step of priority, so that no stream of more urgent
    /// newcomers keeps it from ever being finished. Once all have risen as far as they can, the order is that of arrival,
    /// which nothing changes: the first one ends, then the next.
    pub(super) fn hold(&self, times_set_aside: u32) -> (Priority, Reverse<u64>) {
        (risen(self.priority, times_set_aside), Reverse(self.id))
    }
}

/// `priority` raised by so many steps.
fn risen(priority: Priority, steps: u32) -> Priority {
    match (priority, steps) {
        (Priority::Low, 0) => Priority::Low,
        (Priority::Low, 1) | (Priority::Normal, 0) => Priority::Normal,
        _ => Priority::High,
    }
}
