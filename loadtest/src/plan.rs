//! What a run does.

use std::fmt;
use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::target::{Call, Target};

/// One run, fixed before the first call.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where calls go.
    pub target: Target,
    /// What every call asks.
    pub call: Call,
    /// When calls start.
    pub load: Load,
    /// Calls start during this time; those in flight at its end are waited for.
    pub duration: Duration,
    /// Calls due in the first part of the duration are sent but not counted.
    pub warmup: Duration,
    /// A call without its last byte after this time is given up.
    pub timeout: Duration,
}

/// When calls start.
#[derive(Clone, Debug)]
pub enum Load {
    /// At the times of a schedule, whatever the server does.
    Open {
        /// The schedule.
        arrivals: Arrivals,
        /// Most calls in flight at once.
        concurrency: u32,
    },
    /// Each caller starts a call when its last one ended.
    Closed {
        /// Number of callers.
        callers: usize,
    },
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}: {}, {}", self.load, self.duration, self.target, self.call)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { arrivals, concurrency } => {
                write!(f, "open loop, {arrivals}, at most {concurrency} in flight")
            }
            Self::Closed { callers } => write!(f, "closed loop, {callers} callers"),
        }
    }
}
