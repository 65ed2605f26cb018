//! Adapters by name: loaded, replaced and unloaded while requests run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::memory::{Memory, Reservation};
use super::peft::Source;
use super::{Adapter, AdapterError, AdapterInfo, next_version};
use crate::packed::AdapterBase;

/// Most adapters that may be known at once, and the longest name in bytes.
const MAX_ADAPTERS: usize = 65_536;
const MAX_NAME_BYTES: usize = 256;

/// The adapters of one engine.
///
/// All together take at most the memory that the operator gave, those included that running requests still hold. When
/// room is needed, the longest unused ones are dropped from memory; they stay known, and are read again when they are
/// asked for. While files are read, their bytes come on top: one adapter is read at a time.
pub struct Adapters {
    /// `None` for a backend that has no adapters.
    base: Option<AdapterBase>,
    backend: &'static str,
    memory: Memory,
    known: Mutex<Known>,
    /// Held while files are read.
    reading: Mutex<()>,
}

#[derive(Default)]
struct Known {
    adapters: HashMap<String, Entry>,
    clock: u64,
    evictions: u64,
    reloads: u64,
}

struct Entry {
    folder: PathBuf,
    info: AdapterInfo,
    version: u64,
    /// When it was last asked for.
    used: u64,
    /// `None` while it is not in memory.
    adapter: Option<Adapter>,
}

/// How many adapters there are, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdapterUsage {
    /// Adapters that have a name.
    pub known: usize,
    /// Those of them that are in memory.
    pub resident: usize,
    /// Bytes taken, replaced and unloaded ones that requests still hold included.
    pub bytes: usize,
    /// `EngineOptions::adapter_bytes`.
    pub limit: usize,
    /// Times that one was dropped to make room.
    pub evictions: u64,
    /// Times that one was read again.
    pub reloads: u64,
}

impl Adapters {
    /// No adapters, for a base; `backend` is what computes, for errors.
    pub(crate) fn new(base: Option<AdapterBase>, backend: &'static str, limit: usize) -> Self {
        let (known, reading) = Default::default();
        Self { base, backend, memory: Memory::new(limit), known, reading }
    }

    /// Loads the adapter in `folder` (`adapter_config.json`, `adapter_model.safetensors`) as `name`, in place of what had
    /// that name: requests that hold the old version are computed with it to their end. Blocks while files are read.
    ///
    /// # Errors
    /// See [`AdapterError`]; what had the name keeps it then.
    pub fn load(&self, name: &str, folder: &Path) -> Result<AdapterInfo, AdapterError> {
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) {
            return Err(AdapterError::Name { found: name.len(), limit: MAX_NAME_BYTES });
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |known: &Known| known.adapters.len() >= MAX_ADAPTERS && !known.adapters.contains_key(name);
        if full(&self.lock()) {
            return Err(AdapterError::TooMany { limit: MAX_ADAPTERS });
        }
        let source = self.read(folder)?;
        let memory = self.reserve(source.bytes())?;
        let version = next_version();
        let adapter = Adapter::pack(name.to_owned(), &source, version, memory);
        let info = adapter.info().clone();
        let mut known = self.lock();
        let used = known.tick();
        let entry =
            Entry { folder: folder.to_owned(), info: info.clone(), version, used, adapter: Some(adapter) };
        let replaced = known.adapters.insert(name.to_owned(), entry);
        drop(known);
        drop(replaced);
        Ok(info)
    }

    /// Forgets a name. Requests that hold the adapter are computed with it to their end.
    ///
    /// # Errors
    /// [`AdapterError::Unknown`].
    pub fn unload(&self, name: &str) -> Result<(), AdapterError> {
        let removed = self.lock().adapters.remove(name);
        removed.map(drop).ok_or_else(|| unknown(name))
    }

    /// The adapter with this name if it is in memory. Never blocks for long.
    pub fn resident(&self, name: &str) -> Option<Adapter> {
        let mut known = self.lock();
        let used = known.tick();
        let entry = known.adapters.get_mut(name)?;
        entry.used = used;
        entry.adapter.clone()
    }

    /// The adapter with this name, read again if it is not in memory: blocks then, for the time that takes.
    ///
    /// # Errors
    /// See [`AdapterError`].
    pub fn get(&self, name: &str) -> Result<Adapter, AdapterError> {
        if let Some(adapter) = self.resident(name) {
            return Ok(adapter);
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have read it while this caller waited.
        if let Some(adapter) = self.resident(name) {
            return Ok(adapter);
        }
        let (folder, expected, version) = {
            let known = self.lock();
            let entry = known.adapters.get(name).ok_or_else(|| unknown(name))?;
            (entry.folder.clone(), [entry.info.digest, entry.info.config_digest], entry.version)
        };
        let source = self.read(&folder)?;
        if source.digests() != expected {
            return Err(AdapterError::Changed { name: name.to_owned() });
        }
        let memory = self.reserve(source.bytes())?;
        let adapter = Adapter::pack(name.to_owned(), &source, version, memory);
        let mut known = self.lock();
        known.reloads += 1;
        // It may have been unloaded meanwhile; who asked before that has it.
        if let Some(entry) = known.adapters.get_mut(name) {
            entry.adapter = Some(adapter.clone());
        }
        Ok(adapter)
    }

    /// What is known, by name.
    pub fn list(&self) -> Vec<AdapterInfo> {
        let mut infos: Vec<_> = self.lock().adapters.values().map(|entry| entry.info.clone()).collect();
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        infos
    }

    /// How many there are, and what they take.
    pub fn usage(&self) -> AdapterUsage {
        let known = self.lock();
        AdapterUsage {
            known: known.adapters.len(),
            resident: known.adapters.values().filter(|entry| entry.adapter.is_some()).count(),
            bytes: self.memory.taken(),
            limit: self.memory.limit(),
            evictions: known.evictions,
            reloads: known.reloads,
        }
    }

    fn read(&self, folder: &Path) -> Result<Source, AdapterError> {
        let base = self.base.as_ref().ok_or_else(|| AdapterError::Unsupported {
            what: "the backend".to_owned(),
            found: self.backend.to_owned(),
            supported: "packed".to_owned(),
        })?;
        Source::read(folder, base, self.memory.limit())
    }

    /// Takes memory, dropping idle adapters for it, the longest unused first.
    fn reserve(&self, bytes: usize) -> Result<Reservation, AdapterError> {
        let mut known = self.lock();
        loop {
            match self.memory.reserve(bytes) {
                Err(AdapterError::NoRoom { .. }) if bytes <= self.memory.limit() && known.evict() => {}
                result => return result,
            }
        }
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards sound state.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Drops the longest unused adapter that nobody else holds; false if there is none. Handles are made under the lock
    /// or from other handles, so one that is alone stays so.
    fn evict(&mut self) -> bool {
        let idle = |entry: &&mut Entry| entry.adapter.as_ref().is_some_and(Adapter::is_alone);
        let longest = self.adapters.values_mut().filter(idle).min_by_key(|entry| entry.used);
        let dropped = longest.and_then(|entry| entry.adapter.take());
        self.evictions += u64::from(dropped.is_some());
        dropped.is_some()
    }
}

impl std::fmt::Debug for Adapters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Adapters").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

fn unknown(name: &str) -> AdapterError {
    AdapterError::Unknown { name: name.to_owned() }
}
