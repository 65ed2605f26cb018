//! In-flight slots: the count of every running call, in memory that outlives the process.
//!
//! `slots` is a file of 64-byte slots, mapped shared: a store is visible to whoever opens the file next, even when the
//! process is killed in between. OPEN is appended after its slot is claimed and CLOSE before it is released, so a call that
//! the journal says is open has a slot with its id. After a loss of power a slot may hold less than was counted.

#[expect(unsafe_code, reason = "atomics in a shared memory map")]
mod map;

use std::path::Path;

use crate::{CallId, MeterError, Usage};
use map::SlotMap;

/// Name of the file in a meter's directory.
const SLOTS_FILE: &str = "slots";

/// The in-flight slots of one meter.
pub struct Slots {
    map: SlotMap,
}

impl Slots {
    /// What the slots of a dead process hold: calls and their counts.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub(crate) fn leftovers(dir: &Path) -> Result<Vec<(CallId, Usage)>, MeterError> {
        let path = dir.join(SLOTS_FILE);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > 0 => {}
            Ok(_) => return Ok(Vec::new()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(MeterError::file(&path)(error)),
        }
        let map = SlotMap::open(&path, None).map_err(MeterError::file(&path))?;
        let slots = (0..map.len()).map(|index| (map.call(index), map.usage(index)));
        Ok(slots.filter_map(|(call, usage)| Some((call?, usage))).collect())
    }

    /// Opens `count` free slots, forgetting what they held.
    ///
    /// # Errors
    /// [`MeterError::File`].
    pub(crate) fn open(dir: &Path, count: u32) -> Result<Self, MeterError> {
        let path = dir.join(SLOTS_FILE);
        let map = SlotMap::open(&path, Some(count)).map_err(MeterError::file(&path))?;
        (0..map.len()).for_each(|index| map.release(index));
        Ok(Self { map })
    }

    pub(crate) fn claim(&self, slot: u32, call: CallId) {
        self.map.claim(slot, call);
    }

    pub(crate) fn release(&self, slot: u32) {
        self.map.release(slot);
    }

    pub(crate) fn add_prompt(&self, slot: u32, tokens: u32) {
        self.map.add_prompt(slot, tokens);
    }

    pub(crate) fn add_completion(&self, slot: u32, tokens: u32) {
        self.map.add_completion(slot, tokens);
    }

    pub(crate) fn usage(&self, slot: u32) -> Usage {
        self.map.usage(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> CallId {
        CallId([byte; 16])
    }

    #[test]
    fn counts_outlive_the_map() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(dir.path(), 4).unwrap();
        slots.claim(2, id(7));
        slots.add_prompt(2, 11);
        slots.add_completion(2, 1);
        slots.add_completion(2, 1);
        drop(slots);
        let usage = Usage { prompt_tokens: 11, completion_tokens: 2 };
        assert_eq!(Slots::leftovers(dir.path()).unwrap(), [(id(7), usage)]);
    }

    #[test]
    fn a_released_slot_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(dir.path(), 1).unwrap();
        slots.claim(0, id(1));
        slots.add_completion(0, 5);
        slots.release(0);
        assert_eq!(Slots::leftovers(dir.path()).unwrap(), []);
        slots.claim(0, id(2));
        assert_eq!(slots.usage(0), Usage::default());
    }

    #[test]
    fn the_number_of_slots_may_change_between_runs() {
        let dir = tempfile::tempdir().unwrap();
        Slots::open(dir.path(), 8).unwrap().claim(7, id(3));
        assert_eq!(Slots::leftovers(dir.path()).unwrap(), [(id(3), Usage::default())]);
        drop(Slots::open(dir.path(), 2).unwrap());
        assert_eq!(std::fs::metadata(dir.path().join(SLOTS_FILE)).unwrap().len(), 128);
        assert_eq!(Slots::leftovers(dir.path()).unwrap(), []);
    }

    #[test]
    fn counters_stop_at_their_limit() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(dir.path(), 1).unwrap();
        slots.claim(0, id(1));
        slots.add_completion(0, u32::MAX);
        slots.add_completion(0, 1);
        assert_eq!(slots.usage(0).completion_tokens, u32::MAX);
    }
}
