//! Load for an OpenAI-style endpoint, over HTTP alone.
//!
//! The default is an **open loop**: calls start at the times of a schedule fixed beforehand, whether earlier ones have
//! been answered or not, and every latency is measured from the *intended* start. A server that stalls for a second
//! therefore shows a second in the tail, where a closed loop would merely send less during the stall (coordinated
//! omission). The closed loop, [`plan::Load::Closed`], finds the highest throughput instead.
//!
//! The generator watches itself too: the report says when the schedule was not kept, and whether its own CPU, the cap on
//! concurrency or the server was the reason.

pub mod args;
pub mod arrivals;
pub mod client;
pub mod cpu;
pub mod plan;
pub mod report;
pub mod run;
pub mod sse;
pub mod stats;
pub mod target;
