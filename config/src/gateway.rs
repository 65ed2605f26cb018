//! `[gateway]`: listeners, limits on bytes and time, the queue, the drain.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

use crate::check::Check;
use crate::read::{Section, listener};

/// The HTTP face towards callers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Where the API listens; port 0 takes a free one.
    #[serde(deserialize_with = "listener")]
    pub listen: SocketAddr,
    /// Where the admin API and the metrics listen; never reachable from outside.
    #[serde(deserialize_with = "listener")]
    pub admin_listen: SocketAddr,
    /// Connections open at once; the next one waits in the listener's backlog.
    pub max_connections: u32,
    /// Largest request body.
    pub max_body_bytes: u64,
    /// Time a client has to send its header, and again its body.
    pub read_timeout_ms: u64,
    /// Time a whole call may take, from header to last byte.
    pub request_timeout_ms: u64,
    /// Calls that may wait for the engine; the next one is refused with 429.
    pub queue_calls: u32,
    /// Time a call may wait for the engine; then it is refused with 503.
    pub queue_wait_ms: u64,
    /// `max_tokens` of a request that gives none.
    pub default_max_tokens: u32,
    /// Age at which the hold of a call that never closed is given back.
    pub hold_expiry_ms: u64,
    /// Time that calls in flight have to finish after SIGTERM.
    pub drain_ms: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7410)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7411)),
            max_connections: 1_024,
            max_body_bytes: 1 << 20,
            read_timeout_ms: 10_000,
            request_timeout_ms: 300_000,
            queue_calls: 256,
            queue_wait_ms: 30_000,
            default_max_tokens: 256,
            hold_expiry_ms: 600_000,
            drain_ms: 30_000,
        }
    }
}

impl Section for Gateway {
    const NAME: &'static str = "gateway";

    fn check(&self, check: &mut Check<'_>) {
        check.between("max_connections", self.max_connections.into(), 1, 65_536);
        check.between("max_body_bytes", self.max_body_bytes, 1_024, 1 << 30);
        check.between("read_timeout_ms", self.read_timeout_ms, 100, 600_000);
        check.between("request_timeout_ms", self.request_timeout_ms, 1_000, 3_600_000);
        check.between("queue_calls", self.queue_calls.into(), 1, 65_536);
        check.between("queue_wait_ms", self.queue_wait_ms, 1, 600_000);
        check.between("default_max_tokens", self.default_max_tokens.into(), 1, 1 << 20);
        check.between("drain_ms", self.drain_ms, 0, 3_600_000);
        if !self.admin_listen.ip().is_loopback() {
            check.refuse(
                "admin_listen",
                format!("\"{}\"", self.admin_listen),
                "would offer the admin API to other machines".to_owned(),
                "give a loopback address such as 127.0.0.1".to_owned(),
            );
        }
        if self.hold_expiry_ms < self.request_timeout_ms {
            check.refuse(
                "hold_expiry_ms",
                self.hold_expiry_ms,
                "would expire the hold of a call still running".to_owned(),
                format!("give at least gateway.request_timeout_ms, {}", self.request_timeout_ms),
            );
        }
    }
}
