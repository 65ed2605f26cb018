//! LoRA: patches of a base model, many of them in one batch.
//!
//! An adapter is a folder as PEFT writes it. It is checked against the base, packed (`packed::lora`), and from then on a
//! handle: a request that holds one is computed with exactly that version, whatever is loaded or unloaded under its name
//! meanwhile. [`Adapters`] keeps them by name, within a limit of memory.

mod config;
mod error;
mod memory;
mod names;
mod peft;
mod registry;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::AdapterError;
pub use registry::{AdapterUsage, Adapters};

use crate::packed::{AdapterBase, AdapterWeights};
use memory::{Memory, Reservation};
use peft::Source;

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AdapterInfo {
    /// The name that it was loaded under.
    pub name: String,
    /// SHA-256 of `adapter_model.safetensors`, as of [`crate::digest_file`].
    pub digest: [u8; 32],
    /// SHA-256 of `adapter_config.json`, which has the factor.
    pub config_digest: [u8; 32],
    /// Columns of A·x.
    pub rank: usize,
    /// The adapted modules, by PEFT's names: "q_proj", "v_proj", …
    pub modules: Vec<&'static str>,
    /// Number of weights in the file.
    pub parameters: u64,
    /// Memory that it takes.
    pub bytes: usize,
}

/// One version of an adapter, in memory for as long as anybody has a clone.
#[derive(Clone)]
pub struct Adapter(Arc<Loaded>);

struct Loaded {
    info: AdapterInfo,
    weights: AdapterWeights,
    version: u64,
    _memory: Reservation,
}

impl Adapter {
    /// Reads the adapter in `folder`: `adapter_config.json` and `adapter_model.safetensors`. Its name is the folder's.
    ///
    /// # Errors
    /// If a file cannot be read, is malformed, does not fit the base, or asks for what is not supported.
    pub fn read(folder: &Path, base: &AdapterBase) -> Result<Self, AdapterError> {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let source = Source::read(folder, base, usize::MAX)?;
        let memory = Memory::new(usize::MAX).reserve(source.bytes())?;
        Ok(Self::pack(name, &source, next_version(), memory))
    }

    fn pack(name: String, source: &Source, version: u64, memory: Reservation) -> Self {
        let weights = source.pack();
        let info = source.info(name, weights.bytes());
        Self(Arc::new(Loaded { info, weights, version, _memory: memory }))
    }

    /// What is known of it.
    pub fn info(&self) -> &AdapterInfo {
        &self.0.info
    }

    /// The base that it fits.
    pub(crate) fn base(&self) -> &AdapterBase {
        self.0.weights.base()
    }

    /// A number above 0 that no other version of an adapter in this process has.
    pub(crate) fn version(&self) -> u64 {
        self.0.version
    }

    pub(crate) fn weights(&self) -> &AdapterWeights {
        &self.0.weights
    }

    /// True if there is no other handle.
    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl PartialEq for Adapter {
    fn eq(&self, other: &Self) -> bool {
        self.version() == other.version()
    }
}

impl Eq for Adapter {}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Adapter").field(&self.0.info.name).field(&self.0.version).finish()
    }
}

fn next_version() -> u64 {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    LATEST.fetch_add(1, Ordering::Relaxed) + 1
}
