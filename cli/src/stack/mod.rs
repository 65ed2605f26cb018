//! The local stack: four children, their ports and programs, and what keeps them running.

mod anvil;
mod backoff;
mod chain_clock;
mod children;
pub(crate) mod detach;
mod endpoints;
mod lock;
mod ports;
mod programs;
mod ready;
mod redis;
mod roster;
mod supervise;
mod tail;

pub(crate) use children::{Plan, Stack};
pub(crate) use endpoints::Endpoints;
pub(crate) use lock::{Lock, Occupant};
pub(crate) use ports::Ports;
pub(crate) use programs::{Programs, above_here};
pub(crate) use tail::{Tail, rotate};
