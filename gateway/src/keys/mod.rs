//! API keys: who may call on prepaid credit, how much, how fast.

mod record;
mod secret;
mod store;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;
use dividend_meter::Payer;
use subtle::ConstantTimeEq;

use crate::account::{Account, Limits};
use crate::error::{ApiError, GatewayError};

pub use record::{KeyChange, KeyId, KeyRecord, Priority};
pub use secret::Secret;
use store::Store;

/// Most keys that one gateway keeps; each costs about a kilobyte of memory.
const MAX_KEYS: usize = 1_000_000;

/// All API keys: on disk as hashes with their terms, in memory with their standing.
pub struct Keys {
    store: Store,
    entries: RwLock<HashMap<KeyId, Arc<Entry>>>,
    defaults: ArcSwap<Limits>,
    /// Held over every change, so that store and memory change in the same order.
    changing: Mutex<()>,
}

/// A key as the request path sees it.
pub(crate) struct Entry {
    pub id: KeyId,
    pub record: ArcSwap<KeyRecord>,
    pub account: Arc<Account>,
}

impl Entry {
    pub(crate) fn payer(&self) -> Payer {
        Payer::Key(self.id.0)
    }
}

impl Keys {
    /// Opens or creates the store at `path`.
    ///
    /// # Errors
    /// [`GatewayError::Keys`] if the file is in use, damaged, or not a key store.
    pub fn open(path: &Path, defaults: Limits) -> Result<Self, GatewayError> {
        let store = Store::open(path)?;
        let entries = store
            .all()?
            .into_iter()
            .map(|(id, record)| (id, Arc::new(Entry::new(id, record, defaults))))
            .collect();
        Ok(Self {
            store,
            entries: RwLock::new(entries),
            defaults: ArcSwap::from_pointee(defaults),
            changing: Mutex::new(()),
        })
    }

    /// Makes a key. The secret is in the answer and nowhere else: the store has its SHA-256 only.
    ///
    /// # Errors
    /// [`GatewayError::Keys`] if the store cannot be written or is full.
    pub fn create(&self, record: KeyRecord) -> Result<(Secret, KeyId), GatewayError> {
        let secret = Secret::generate();
        let id = self.adopt(&secret, record)?;
        Ok((secret, id))
    }

    /// Takes in a key whose secret was made elsewhere.
    ///
    /// # Errors
    /// As [`Keys::create`].
    pub fn adopt(&self, secret: &Secret, mut record: KeyRecord) -> Result<KeyId, GatewayError> {
        let _changing = self.changing();
        if self.read().len() >= MAX_KEYS {
            return Err(self.store.problem(format!("{MAX_KEYS} keys are the limit; delete some")));
        }
        let id = secret.id();
        record.tail = secret.tail();
        self.store.put(&id, &record)?;
        let entry = Arc::new(Entry::new(id, record, **self.defaults.load()));
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
        Ok(id)
    }

    /// Changes a key's terms. Usage is not touched: credit is a running total, and limits speak of the future.
    ///
    /// # Errors
    /// [`GatewayError::Keys`] if the store cannot be written; then nothing has changed. `Ok(None)`: no such key.
    pub fn change(
        &self,
        id: &KeyId,
        change: &KeyChange,
        now_ms: u64,
    ) -> Result<Option<KeyRecord>, GatewayError> {
        let _changing = self.changing();
        let Some(entry) = self.get(id) else { return Ok(None) };
        let record = change.apply(&entry.record.load());
        self.store.put(id, &record)?;
        entry.account.set_limits(record.limits.over(**self.defaults.load()), now_ms);
        entry.record.store(Arc::new(record.clone()));
        Ok(Some(record))
    }

    /// Puts new defaults in force, for every key that has no limit of its own.
    pub(crate) fn set_defaults(&self, defaults: Limits, now_ms: u64) {
        let _changing = self.changing();
        self.defaults.store(Arc::new(defaults));
        for entry in self.read().values() {
            entry.account.set_limits(entry.record.load().limits.over(defaults), now_ms);
        }
    }

    /// The key that `presented` is.
    ///
    /// # Errors
    /// [`ApiError::WrongKey`] for a key that is unknown, malformed or revoked; the three are not told apart.
    pub(crate) fn authenticate(&self, presented: &str) -> Result<Arc<Entry>, ApiError> {
        let wrong = || ApiError::WrongKey { tail: secret::tail_of(presented) };
        let id = secret::id_of(presented).ok_or_else(wrong)?;
        let entry = self.get(&id).ok_or_else(wrong)?;
        // The map has compared hashes already, and not in constant time; that tells about hashes, not about keys.
        // This comparison keeps the property should the look-up ever go by a prefix.
        let same: bool = entry.id.0.ct_eq(&id.0).into();
        if same && entry.record.load().revoked_ms.is_none() { Ok(entry) } else { Err(wrong()) }
    }

    /// The limits of keys that have none of their own.
    pub fn defaults(&self) -> Limits {
        **self.defaults.load()
    }

    /// Number of keys, revoked ones included.
    pub fn count(&self) -> usize {
        self.read().len()
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<Arc<Entry>> {
        self.read().get(id).cloned()
    }

    /// Every key, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.read().values().cloned().collect();
        all.sort_by_key(|entry| (entry.record.load().created_ms, entry.id));
        all
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<KeyId, Arc<Entry>>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(id: KeyId, record: KeyRecord, defaults: Limits) -> Self {
        let account = Account::new(record.limits.over(defaults));
        Self { id, record: ArcSwap::from_pointee(record), account }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::LimitOverrides;

    const DEFAULTS: Limits = Limits { requests_per_minute: 5, tokens_per_minute: 100, concurrency: 2 };

    #[test]
    fn a_key_survives_a_restart_and_its_secret_is_not_on_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys.redb");
        let keys = Keys::open(&path, DEFAULTS).expect("a new store");
        let (secret, id) = keys.create(KeyRecord::new("app", 7, 1_000)).expect("a key");
        assert_eq!(keys.authenticate(secret.reveal()).expect("known").id, id);
        drop(keys);
        let bytes = std::fs::read(&path).expect("the store");
        let text = secret.reveal().as_bytes();
        assert!(!bytes.windows(text.len()).any(|window| window == text), "the secret is on disk");
        let keys = Keys::open(&path, DEFAULTS).expect("the same store");
        let entry = keys.authenticate(secret.reveal()).expect("still known");
        assert_eq!(entry.record.load().credit_pico, 1_000);
    }

    #[test]
    fn unknown_malformed_and_revoked_keys_look_alike() {
        let dir = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(&dir.path().join("keys.redb"), DEFAULTS).expect("a new store");
        let (secret, id) = keys.create(KeyRecord::new("app", 7, 0)).expect("a key");
        let change = KeyChange { revoked_ms: Some(9), ..KeyChange::default() };
        keys.change(&id, &change, 9).expect("written").expect("known");
        for presented in [secret.reveal(), "sk-dvd-nope", "", "sk-other", Secret::generate().reveal()] {
            assert!(matches!(keys.authenticate(presented), Err(ApiError::WrongKey { .. })), "{presented}");
        }
    }

    #[test]
    fn new_limits_are_in_force_at_once_and_forget_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(&dir.path().join("keys.redb"), DEFAULTS).expect("a new store");
        let (_, own) = keys.create(KeyRecord::new("own", 1, 0)).expect("a key");
        let (_, other) = keys.create(KeyRecord::new("other", 2, 0)).expect("a key");
        let limits = LimitOverrides { concurrency: Some(1), ..LimitOverrides::default() };
        keys.change(&own, &KeyChange { limits: Some(limits), ..KeyChange::default() }, 0).expect("written");
        let own = keys.get(&own).expect("known").account.clone();
        let _in_flight = own.enter(0).expect("one");
        keys.set_defaults(Limits { concurrency: 4, ..DEFAULTS }, 0);
        assert!(own.enter(0).is_err(), "its own limit stays");
        let other = keys.get(&other).expect("known").account.clone();
        let permits: Vec<_> = (0..4).map(|_| other.enter(0).expect("the new default")).collect();
        assert!(other.enter(0).is_err());
        drop(permits);
    }
}
