//! The memory map and its atomics: the one module of this crate with `unsafe`.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapOptions};

use crate::{CallId, Usage};

/// One cache line per slot, so that calls on two cores do not share one.
#[repr(C, align(64))]
struct Slot {
    /// The call id, zero when free.
    call: [AtomicU64; 2],
    /// Counters are 64 bits wide, so that adding 32-bit counts to them cannot wrap.
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    _reserved: [u64; 4],
}

const SLOT_BYTES: usize = size_of::<Slot>();

/// A file of slots, mapped shared.
pub(super) struct SlotMap {
    // Kept so that the length cannot be confused with the map's: slots in the map, at most u32::MAX.
    len: u32,
    map: MmapMut,
}

impl SlotMap {
    /// Maps the file, made or resized to `count` slots; `None` maps what is there.
    pub(super) fn open(path: &Path, count: Option<u32>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(count.is_some()).truncate(false).open(path)?;
        let len = match count {
            Some(count) => {
                reserve(&file, u64::from(count) * SLOT_BYTES as u64)?;
                count
            }
            None => u32::try_from(file.metadata()?.len() / SLOT_BYTES as u64).map_err(io::Error::other)?,
        };
        let bytes = len as usize * SLOT_BYTES;
        // SAFETY: the file is this directory's own, guarded by the writer's lock, and nobody shortens it while it is
        // mapped. It is only ever accessed through the atomics of `Slot`, so no reference sees it change.
        let map = unsafe { MmapOptions::new().len(bytes).map_mut(&file)? };
        Ok(Self { len, map })
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    fn slot(&self, index: u32) -> &Slot {
        assert!(index < self.len, "slot {index} of {}", self.len);
        // SAFETY: the index is in range, the map is page-aligned and `len · SLOT_BYTES` long, every bit pattern is a valid
        // `Slot`, and its fields are atomics (`_reserved` is never read), so shared access from any thread is sound.
        unsafe { &*self.map.as_ptr().cast::<Slot>().add(index as usize) }
    }

    /// Empties the counters, then names the call: a death in between leaves a name that the journal does not know.
    pub(super) fn claim(&self, index: u32, call: CallId) {
        let slot = self.slot(index);
        slot.prompt_tokens.store(0, Ordering::Release);
        slot.completion_tokens.store(0, Ordering::Release);
        let (first, second) = halves(call);
        slot.call[0].store(first, Ordering::Release);
        slot.call[1].store(second, Ordering::Release);
    }

    pub(super) fn release(&self, index: u32) {
        for half in &self.slot(index).call {
            half.store(0, Ordering::Release);
        }
    }

    pub(super) fn add_prompt(&self, index: u32, tokens: u32) {
        self.slot(index).prompt_tokens.fetch_add(u64::from(tokens), Ordering::Release);
    }

    pub(super) fn add_completion(&self, index: u32, tokens: u32) {
        self.slot(index).completion_tokens.fetch_add(u64::from(tokens), Ordering::Release);
    }

    /// The counts, at most `u32::MAX` each.
    pub(super) fn usage(&self, index: u32) -> Usage {
        let slot = self.slot(index);
        let read = |counter: &AtomicU64| u32::try_from(counter.load(Ordering::Acquire)).unwrap_or(u32::MAX);
        Usage { prompt_tokens: read(&slot.prompt_tokens), completion_tokens: read(&slot.completion_tokens) }
    }

    pub(super) fn call(&self, index: u32) -> Option<CallId> {
        let slot = self.slot(index);
        let [first, second] = &slot.call;
        let (first, second) = (first.load(Ordering::Acquire), second.load(Ordering::Acquire));
        let id = u128::from(first) << 64 | u128::from(second);
        (id != 0).then(|| CallId(id.to_be_bytes()))
    }
}

fn halves(call: CallId) -> (u64, u64) {
    let id = u128::from_be_bytes(call.0);
    ((id >> 64) as u64, id as u64)
}

/// Gives the file exactly `bytes` of disk: a store into a hole of a full disk would kill the process (SIGBUS).
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    if bytes > 0 {
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    }
    Ok(())
}
