//! Lineage, terms, tracks and channels as the chain has them, published as immutable [`Snapshot`]s.
//!
//! The request path reads a snapshot and makes no RPC. A snapshot names its block and knows its age, so that a reader
//! can refuse one that is too old.

pub mod artifact;
mod error;
pub mod flatten;
mod ids;
mod manifest;
mod projection;
mod register;
pub mod shares;
mod snapshot;
mod state;
mod tree;

pub use error::{Error, Result};
pub use flatten::flatten;
pub use ids::{ModelId, TrackId};
pub use manifest::ModelManifest;
pub use projection::{follow, rebuild};
pub use register::{Charter, create_track, register, set_champion};
pub use snapshot::{
    BlockRef, ChannelView, EscrowView, Kind, LaneView, ModelView, ParentView, PriceFloor, Row, Slot,
    Snapshot, TrackView, Withdrawal,
};
pub use tree::{LineageTree, tree};
