//! Tests of metering through its public face: properties over random histories, real kills, a real Redis.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the test's failure")]

mod calls;
mod damage;
mod golden;
mod kill;
mod machine;
mod redis_store;
mod server;
mod support;
mod windows;
mod wiped;
