//! The immutable view of the chain that the request path, the meter and the pages read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::ids::shown;
use crate::state::{Channels, State};
use crate::{Error, ModelId, Result, TrackId};

/// A block of the followed chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// The block's own clock, unix seconds.
    pub timestamp_s: u64,
}

/// How a model came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Has no parents.
    Base,
    /// A full set of weights derived from its parents.
    Fork,
    /// A delta against a parent.
    Patch,
}

/// A parent and its weight among the parents of a model; weights sum to 1_000_000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentView {
    /// The parent node.
    pub model: ModelId,
    /// Weight in ppm.
    pub weight_ppm: u32,
}

/// A contributor's part of a node's share; the parts of a node sum to 1_000_000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Part of the node's share, in ppm.
    pub share_ppm: u32,
    /// Where claims are paid; only the payee itself rotates it.
    pub payee: Address,
}

/// One row of a model's flattened table; the rows' shares sum to 1_000_000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The ancestor, the model itself, or the verifiers' pot of its track.
    pub node: ModelId,
    /// Part of the model's royalty, in ppm.
    pub share_ppm: u32,
    /// Least part of the call's price, in ppm, that the row must receive.
    pub floor_ppm: u32,
}

/// Prices in pico-dollars per token below which a model may not be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceFloor {
    /// Per prompt token.
    pub input_pico_per_token: u64,
    /// Per output token.
    pub output_pico_per_token: u64,
}

/// A registered model. All but the payees of its slots is fixed for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    /// The node's id.
    pub id: ModelId,
    /// The account that registered it.
    pub owner: Address,
    /// How it came to be.
    pub kind: Kind,
    /// Parents in the order of registration.
    pub parents: Vec<ParentView>,
    /// Part of the royalty that goes to the parents, in ppm.
    pub inherit_ppm: u32,
    /// Contributors of this node.
    pub slots: Vec<Slot>,
    /// Part of every call's price that is royalty, in ppm.
    pub royalty_ppm: u32,
    /// Least prices.
    pub min_price: PriceFloor,
    /// Least part of the call's price for this node in every descendant, in ppm.
    pub floor_ppm: u32,
    /// SHA-256 of the artifact.
    pub artifact_digest: B256,
    /// Where the artifact can be fetched.
    pub uri: String,
    /// The track that it was registered for.
    pub track: Option<TrackId>,
    /// Who shares its royalty: the model itself first.
    pub rows: Vec<Row>,
    /// The block that registered it.
    pub registered_at: u64,
}

/// A track with the champions it has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackView {
    /// `keccak256(name)`.
    pub id: TrackId,
    /// Public name.
    pub name: String,
    /// Who may switch the champion outside competitions.
    pub owner: Address,
    /// Every champion so far, oldest first; the last one serves now.
    pub champions: Vec<ModelId>,
    /// Least part that a winner inherits from the champion, in ppm.
    pub champion_inherit_ppm: u32,
    /// The verifiers' part of every royalty, in ppm.
    pub verifier_ppm: u32,
    /// Whom the pool pays the verifiers' pot.
    pub verifiers: Address,
    /// Whether a competition is running, so that the owner cannot switch.
    pub locked: bool,
}

impl TrackView {
    /// The model that serves now, if the track has had any.
    pub fn champion(&self) -> Option<ModelId> {
        self.champions.last().copied()
    }
}

/// What a payment channel has paid for one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneView {
    /// Paid so far, in base units (µ$).
    pub paid_units: u128,
}

/// A requested withdrawal of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Requested amount in base units.
    pub amount_units: u128,
    /// When it may be taken, unix seconds.
    pub matures_at_s: u64,
    /// When it lapses if not taken, unix seconds.
    pub lapses_at_s: u64,
}

/// A payment channel. A deposit counts once it is final; what is spent or asked back counts at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Channel id: hash of its immutable configuration.
    pub id: B256,
    /// Owner of the deposit.
    pub payer: Address,
    /// The hot key that signs vouchers.
    pub signer: Address,
    /// The operator whom it pays.
    pub operator: Address,
    /// Seconds between a withdrawal's request and its maturity.
    pub withdraw_delay_s: u64,
    /// Everything ever deposited less everything withdrawn, in base units: the lower of the figures at finality and at
    /// the head.
    pub deposit_units: u128,
    /// Redeemed over all lanes at the head, in base units.
    pub redeemed_units: u128,
    /// Redeemed by lane at the head.
    pub lanes: BTreeMap<ModelId, LaneView>,
    /// The request that is pending at the head.
    pub withdrawal: Option<Withdrawal>,
}

impl ChannelView {
    /// Deposit that is neither redeemed nor about to be withdrawn, in base units. What was served and not yet
    /// redeemed is the meter's to subtract.
    pub fn free_units(&self) -> u128 {
        let pending = self.withdrawal.map_or(0, |w| w.amount_units);
        self.deposit_units.saturating_sub(self.redeemed_units).saturating_sub(pending)
    }
}

/// The operator's own channel in UsageLedger, at the head: the escrow from which royalty on prepaid calls is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowView {
    /// Escrow left, in base units.
    pub balance_units: u128,
    /// Charges of prepaid calls posted so far, by model, in pico-dollars.
    pub accrued_pico: BTreeMap<ModelId, u128>,
    /// Royalty on them that the escrow could not pay yet, by model, in base units; models that are owed nothing are left
    /// out.
    pub owed_units: BTreeMap<ModelId, u128>,
    /// Royalty paid so far, by model, in base units.
    pub paid_units: BTreeMap<ModelId, u128>,
}

impl EscrowView {
    /// Royalty that the escrow could not pay yet, over all models, in base units.
    pub fn total_owed_units(&self) -> u128 {
        self.owed_units.values().sum()
    }
}

/// The chain's state at one block. Cheap to clone and safe to keep: it never changes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    block: BlockRef,
    finalized: u64,
    observed_at: Instant,
    /// False before the follower's first look.
    seen: bool,
    state: Arc<State>,
    /// As in `state`, but with deposits as of finality.
    channels: Arc<Channels>,
}

impl Snapshot {
    pub(crate) fn new(
        block: BlockRef,
        finalized: u64,
        observed_at: Instant,
        state: Arc<State>,
        channels: Arc<Channels>,
    ) -> Self {
        Self { block, finalized, observed_at, seen: true, state, channels }
    }

    /// A snapshot without a chain, for tests of what reads snapshots. All of it is final.
    pub fn fixture(
        block: BlockRef,
        observed_at: Instant,
        models: Vec<ModelView>,
        tracks: Vec<TrackView>,
        channels: Vec<ChannelView>,
        escrow: EscrowView,
    ) -> Self {
        let state = State::of(models, tracks, channels, escrow);
        let channels = Arc::new(state.channels.clone());
        Self::new(block, block.number, observed_at, Arc::new(state), channels)
    }

    /// The fixture with revenue by model, and claims by model, node and slot, in base units.
    #[must_use]
    pub fn with_credits(
        mut self,
        revenue: impl IntoIterator<Item = (ModelId, u128)>,
        claimed: impl IntoIterator<Item = ((ModelId, ModelId, u8), u128)>,
    ) -> Self {
        let state = Arc::make_mut(&mut self.state);
        state.revenue.extend(revenue);
        state.claimed.extend(claimed);
        self
    }

    /// What is known before the chain was seen: nothing.
    pub(crate) fn unseen() -> Self {
        let (block, now, escrow) = (BlockRef::default(), Instant::now(), EscrowView::default());
        Self { seen: false, ..Self::fixture(block, now, Vec::new(), Vec::new(), Vec::new(), escrow) }
    }

    /// The same state, seen again later.
    pub(crate) fn seen_at(&self, block: BlockRef, finalized: u64, observed_at: Instant) -> Self {
        Self { block, finalized, observed_at, seen: true, ..self.clone() }
    }

    /// Hash of everything that the contracts' logs up to the block say, wherever finality stands: equal for everybody who
    /// followed the same chain to the same block, live or rebuilt from genesis.
    pub fn state_hash(&self) -> B256 {
        self.state.hash()
    }

    /// The model with this id.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub fn require(&self, id: ModelId) -> Result<&Arc<ModelView>> {
        self.model(id).ok_or(Error::UnknownModel(id))
    }

    /// The block that the snapshot shows.
    pub fn block(&self) -> BlockRef {
        self.block
    }

    /// Number of the newest block that was final then.
    pub fn finalized(&self) -> u64 {
        self.finalized
    }

    /// When the follower last saw that `block` was the head.
    pub fn observed_at(&self) -> Instant {
        self.observed_at
    }

    /// Time since the chain was last seen; endless if it never was.
    pub fn age(&self, now: Instant) -> Duration {
        match self.seen {
            true => now.saturating_duration_since(self.observed_at),
            false => Duration::MAX,
        }
    }

    /// The model that `name` means in a request: a track's champion, `track@n` for its n-th (from 1), or a node id.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn resolve(&self, name: &str) -> Result<&Arc<ModelView>> {
        self.find(name).ok_or_else(|| Error::UnknownName { name: shown(name) })
    }

    fn find(&self, name: &str) -> Option<&Arc<ModelView>> {
        if let Some(track) = self.track(name) {
            return self.model(track.champion()?);
        }
        if let Some((track, nth)) = name.rsplit_once('@') {
            let nth: usize = nth.parse().ok()?;
            return self.model(*self.track(track)?.champions.get(nth.checked_sub(1)?)?);
        }
        self.model(name.parse().ok()?)
    }

    /// The model with this id.
    pub fn model(&self, id: ModelId) -> Option<&Arc<ModelView>> {
        self.state.models.get(&id)
    }

    /// Every model, in no particular order.
    pub fn models(&self) -> impl Iterator<Item = &Arc<ModelView>> {
        self.state.models.values()
    }

    /// The track called `name`.
    pub fn track(&self, name: &str) -> Option<&Arc<TrackView>> {
        self.state.tracks.get(self.state.track_names.get(name)?)
    }

    /// The track with this id.
    pub fn track_by_id(&self, id: TrackId) -> Option<&Arc<TrackView>> {
        self.state.tracks.get(&id)
    }

    /// Every track, in no particular order.
    pub fn tracks(&self) -> impl Iterator<Item = &Arc<TrackView>> {
        self.state.tracks.values()
    }

    /// The channel with this id.
    pub fn channel(&self, id: B256) -> Option<&Arc<ChannelView>> {
        self.channels.get(&id)
    }

    /// Every channel, in no particular order.
    pub fn channels(&self) -> impl Iterator<Item = &Arc<ChannelView>> {
        self.channels.values()
    }

    /// The operator's escrow for prepaid calls.
    pub fn escrow(&self) -> &EscrowView {
        &self.state.escrow
    }

    /// Royalty ever credited to the model in the pool, in base units, as of the head.
    pub fn revenue_units(&self, model: ModelId) -> u128 {
        self.state.revenue.get(&model).copied().unwrap_or(0)
    }

    /// What slot `slot` of `node` has claimed of `model`'s revenue, in base units, as of the head.
    pub fn claimed_units(&self, model: ModelId, node: ModelId, slot: u8) -> u128 {
        self.state.claimed.get(&(model, node, slot)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
