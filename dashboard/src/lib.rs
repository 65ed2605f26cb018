//! Pages and a JSON read API over what is metered, credited and claimed.
//!
//! Everything shown comes from one [`Moment`]: a snapshot of the chain, the journal's totals and the windows' states, taken
//! together. [`figures`] turns a moment into the figures of a page, purely; the same figures are rendered as HTML and
//! answered as JSON, so that the two never disagree. Pages work without script; a script of forty lines refreshes the
//! figures in place.
//!
//! Text that comes from the chain was written by strangers: it is escaped, cut, and stripped of what could reorder or
//! hide other text ([`format::clean`]), and no page loads anything from elsewhere (see the policy in [`routes`]).

pub mod figures;
pub mod format;
pub mod lineage;
pub mod live;
pub mod moment;
mod pages;
pub mod routes;

pub use live::{LiveInputs, LiveSource};
pub use moment::{Moment, Source, WindowRow, WindowState};
pub use routes::router;

use std::future::Future;

/// Serves a router, this crate's or one merged with it, until `shutdown` resolves.
///
/// # Errors
/// A listener that fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: axum::Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}
