//! What the contracts' logs say, folded in order. The fold is pure: the same logs give the same state.

mod fold;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alloy::primitives::{B256, Keccak256};
use serde::Serialize;

use crate::{ChannelView, EscrowView, ModelId, ModelView, TrackId, TrackView};

/// Channels by id.
pub(crate) type Channels = HashMap<B256, Arc<ChannelView>>;

/// Whom the pool has paid: model, node, slot.
pub(crate) type ClaimKey = (ModelId, ModelId, u8);

/// The state after some block. Maps are shared between the states that did not change them.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub models: Arc<HashMap<ModelId, Arc<ModelView>>>,
    pub tracks: Arc<HashMap<TrackId, Arc<TrackView>>>,
    pub track_names: Arc<HashMap<String, TrackId>>,
    pub channels: Channels,
    pub escrow: EscrowView,
    pub revenue: HashMap<ModelId, u128>,
    pub claimed: HashMap<ClaimKey, u128>,
}

impl State {
    pub fn of(
        models: Vec<ModelView>,
        tracks: Vec<TrackView>,
        channels: Vec<ChannelView>,
        escrow: EscrowView,
    ) -> Self {
        let mut state = Self { escrow, ..Self::default() };
        let tracks = tracks.into_iter().map(|track| (track.id, Arc::new(track)));
        state.tracks = Arc::new(tracks.collect());
        let names = state.tracks.values().map(|track| (track.name.clone(), track.id));
        state.track_names = Arc::new(names.collect());
        state.models = Arc::new(models.into_iter().map(|model| (model.id, Arc::new(model))).collect());
        state.channels = channels.into_iter().map(|channel| (channel.id, Arc::new(channel))).collect();
        state
    }

    /// Hash over everything in a fixed order.
    pub fn hash(&self) -> B256 {
        let mut hasher = Keccak256::new();
        add_sorted(&mut hasher, self.models.values().map(|model| (model.id, model.as_ref())));
        add_sorted(&mut hasher, self.tracks.values().map(|track| (track.id, track.as_ref())));
        add_sorted(&mut hasher, self.channels.values().map(|channel| (channel.id, channel.as_ref())));
        add_sorted(&mut hasher, [((), &self.escrow)]);
        add_sorted(&mut hasher, self.revenue.iter().map(|(model, units)| (*model, units)));
        add_sorted(&mut hasher, self.claimed.iter().map(|(key, units)| (*key, units)));
        hasher.finalize()
    }

    /// The channels with their deposits as of finality: the lower of the two figures.
    pub fn prudent_channels(&self, last_final: &Self) -> Channels {
        let lowered = |(id, head): (&B256, &Arc<ChannelView>)| {
            let deposit_units = last_final.channels.get(id).map_or(0, |channel| channel.deposit_units);
            let channel = match deposit_units < head.deposit_units {
                true => Arc::new(ChannelView { deposit_units, ..head.as_ref().clone() }),
                false => head.clone(),
            };
            (*id, channel)
        };
        self.channels.iter().map(lowered).collect()
    }
}

fn add_sorted<'a, K: Ord + Serialize, V: Serialize + 'a>(
    hasher: &mut Keccak256,
    entries: impl IntoIterator<Item = (K, &'a V)>,
) {
    let sorted: BTreeMap<K, &V> = entries.into_iter().collect();
    hasher.update((sorted.len() as u64).to_be_bytes());
    for entry in sorted {
        let bytes = serde_json::to_vec(&entry).expect("views have string keys only and always serialise");
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(&bytes);
    }
}
