//! A model made for one instruction set and one type of cache.

use std::path::Path;

use super::Options;
use super::forward::{Batch, Buffers, Pass};
use super::isa::{Dispatch, Simd};
use super::kv::{Geometry, KvType, Store};
use super::model::Model;
use super::number::{Half, Single, Storable};
use super::workers::{Panicked, Workers};
use crate::EngineError;
use crate::gguf::Gguf;

/// What a model does, whatever it was made for.
pub(crate) trait Engine: Send {
    /// The model.
    fn model(&self) -> &Model;

    /// Values kept in the cache for one token.
    fn kv_values_per_token(&self) -> usize;

    /// Copies a block of the cache.
    fn copy(&mut self, from: u32, to: u32);

    /// Prepares for positions below `positions`.
    fn extend_to(&mut self, positions: usize);

    /// Computes a batch.
    fn pass(&mut self, batch: &Batch<'_>) -> Result<(), Panicked>;
}

/// Loads a model for the instruction set with whose token it is called.
pub(crate) struct Load<'a> {
    pub(crate) path: &'a Path,
    pub(crate) gguf: &'a Gguf,
    pub(crate) options: Options,
    /// Told of the bytes of each piece of a tensor that has been packed.
    pub(crate) packed: &'a (dyn Fn(u64) + Sync),
}

impl Dispatch for Load<'_> {
    type Output = Result<Box<dyn Engine>, EngineError>;

    fn call<S: Simd>(self, simd: S) -> Self::Output {
        let Options { threads, kv_blocks, kv_type, .. } = self.options;
        let workers = Workers::new(threads).map_err(|error| EngineError::Backend(error.to_string()))?;
        let model = Model::load(self.path, self.gguf, threads, self.packed)?;
        let geometry = Geometry::of(&model.architecture, kv_blocks);
        let too_large = || EngineError::Option {
            option: "kv_blocks",
            found: kv_blocks,
            expected: "small enough that the cache fits into memory",
        };
        let buffers = Buffers::new(&model, threads);
        Ok(match kv_type {
            KvType::F16 => {
                let store = Store::<Half>::new(geometry).ok_or_else(too_large)?;
                Box::new(Typed { simd, model, buffers, store, workers })
            }
            KvType::F32 => {
                let store = Store::<Single>::new(geometry).ok_or_else(too_large)?;
                Box::new(Typed { simd, model, buffers, store, workers })
            }
        })
    }
}

struct Typed<S: Simd, N: Storable> {
    simd: S,
    model: Model,
    buffers: Buffers<S>,
    store: Store<N>,
    workers: Workers,
}

impl<S: Simd, N: Storable> Engine for Typed<S, N> {
    fn model(&self) -> &Model {
        &self.model
    }

    fn kv_values_per_token(&self) -> usize {
        self.store.geometry().values_per_token()
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.store.copy(from, to);
    }

    fn extend_to(&mut self, positions: usize) {
        self.model.angles.iter_mut().for_each(|angles| angles.extend_to(positions));
    }

    fn pass(&mut self, batch: &Batch<'_>) -> Result<(), Panicked> {
        let pass = Pass::new(self.simd, &self.model, &self.buffers, &self.store, batch);
        self.workers.run(&|worker| pass.run(worker))
    }
}
