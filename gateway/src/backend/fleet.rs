//! Which backend serves which model; replaced as a whole, never locked on the request path.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dividend_registry::ModelId;

use super::Backend;
use crate::queue::Queue;

type Map = BTreeMap<ModelId, Served>;

/// A backend with the queue in front of it.
#[derive(Clone)]
pub(crate) struct Served {
    pub backend: Arc<dyn Backend>,
    pub queue: Arc<Queue>,
}

/// The models this gateway can compute. Cheap to read; a change is seen by the next call, and calls in flight keep
/// the backend they began with.
#[derive(Default)]
pub struct Backends(ArcSwap<Map>);

impl Backends {
    /// No backend at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `model` with `backend` from now on.
    pub fn insert(&self, model: ModelId, backend: Arc<dyn Backend>) {
        let queue = Queue::new(backend.sequences());
        let served = Served { backend, queue };
        self.0.rcu(|map| {
            let mut map = Map::clone(map);
            map.insert(model, served.clone());
            map
        });
    }

    /// Stops serving `model`.
    pub fn remove(&self, model: &ModelId) {
        self.0.rcu(|map| {
            let mut map = Map::clone(map);
            map.remove(model);
            map
        });
    }

    /// Every model served here, in the order of their ids.
    pub fn models(&self) -> Vec<ModelId> {
        self.0.load().keys().copied().collect()
    }

    pub(crate) fn get(&self, model: &ModelId) -> Option<Served> {
        self.0.load().get(model).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(ModelId, Served)> {
        self.0.load().iter().map(|(model, served)| (*model, served.clone())).collect()
    }
}
