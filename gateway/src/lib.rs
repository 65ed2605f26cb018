//! From an HTTP request to a metered answer.
//!
//! `accept → limits on bytes and time → request id → trace → shed → authenticate → admit → route → reserve → open →
//! infer → close`. What cuts across is a layer (`stack.rs`, in request order); the rest is one readable
//! function (`calls/`) over proof types with private fields, so that a step that is left out does not
//! compile.
//!
//! ```no_run
//! # async fn run(parts: dividend_gateway::Parts) -> Result<(), dividend_gateway::GatewayError> {
//! use dividend_gateway::{Gateway, Listeners, serve};
//!
//! let listeners = Listeners::bind(&parts.settings).await?;
//! println!("http://{}/v1", listeners.api());
//! let gateway = Gateway::new(parts)?;
//! serve(gateway, listeners, async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await
//! # }
//! ```
//!
//! The request path reads the chain from a snapshot and makes no RPC; money that was spent is what the meter's journal
//! says; the gateway itself keeps only what is held for calls in flight.

mod account;
mod admin;
mod admission;
mod answer;
pub mod backend;
mod body;
mod calls;
mod clock;
mod connection;
mod error;
mod gateway;
pub mod keys;
mod layers;
mod metrics;
mod openai;
pub mod payment;
mod pico;
mod queue;
mod receipt;
mod reload;
mod routes;
mod serve;
mod settings;
mod stack;

pub use account::{LimitOverrides, Limits};
pub use backend::{Backend, Backends, EmbedderBackend, EngineBackend, InstantBackend};
pub use clock::Clock;
pub use error::GatewayError;
pub use gateway::{Gateway, Parts};
pub use keys::Keys;
pub use reload::watch_settings;
pub use serve::{Listeners, serve};
pub use settings::Settings;
