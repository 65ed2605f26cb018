//! Who uses which block: reference counts, the blocks that are known by their content, and eviction.
//!
//! A full block is known by its tokens and by the block before it, so that a chain of blocks stands for a
//! prompt's beginning. The keys hold the tokens themselves: two prompts can never be taken for one another.

use std::collections::{BTreeMap, HashMap};

use super::Scope;
use super::store::POSITIONS;

/// Names the content of a full block: unlike the block's number, never used again. The default is what
/// comes before the first block of a sequence without an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Content {
    /// Version of the adapter that the block was computed with; 0 for none.
    adapter: u64,
    /// From 1; 0 for what comes before the first block.
    number: u64,
}

impl Content {
    /// What comes before the first block of a sequence with this version of an adapter, 0 for none: nothing that was
    /// computed with one is found with another.
    pub(crate) fn before_all(adapter: u64) -> Self {
        Self { adapter, number: 0 }
    }
}

/// A full block's content: the block before it, and its tokens, among the sequences of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Who may share it.
    pub(crate) scope: Scope,
    /// The content before it.
    pub(crate) before: Content,
    /// Its tokens.
    pub(crate) tokens: [u32; POSITIONS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    references: u32,
    /// When it was last released.
    released: u64,
    content: Option<(Key, Content)>,
}

/// All blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Unused blocks without content.
    free: Vec<u32>,
    /// Unused blocks that may be wanted again, by the time of their release.
    idle: BTreeMap<u64, u32>,
    known: HashMap<Key, u32>,
    contents: u64,
    clock: u64,
}

impl Blocks {
    /// `count` unused blocks.
    pub(crate) fn new(count: usize) -> Self {
        let free = (0..count).map(|block| block as u32).rev().collect();
        let blocks = vec![Block::default(); count];
        Self { blocks, free, idle: BTreeMap::new(), known: HashMap::new(), contents: 0, clock: 0 }
    }

    /// All blocks.
    pub(crate) fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Unused blocks whose content is kept.
    pub(crate) fn cached(&self) -> usize {
        self.idle.len()
    }

    /// Blocks that `take` can still give, those with content that nobody uses included.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// An unused block, the longest unused one if all have content.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = self.free.pop().or_else(|| {
            let (_, block) = self.idle.pop_first()?;
            self.forget(block);
            Some(block)
        })?;
        self.blocks[block as usize].references = 1;
        Some(block)
    }

    /// One more user of a block.
    pub(crate) fn share(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        if entry.references == 0 {
            self.idle.remove(&entry.released);
        }
        entry.references += 1;
    }

    /// One user less.
    pub(crate) fn release(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        entry.references = entry.references.checked_sub(1).expect("a block is released once per user");
        if entry.references > 0 {
            return;
        }
        if entry.content.is_some() {
            self.clock += 1;
            entry.released = self.clock;
            self.idle.insert(self.clock, block);
        } else {
            self.free.push(block);
        }
    }

    /// True if more than one sequence uses the block.
    pub(crate) fn is_shared(&self, block: u32) -> bool {
        self.blocks[block as usize].references > 1
    }

    /// The block with this content, if there is one.
    pub(crate) fn find(&self, key: &Key) -> Option<(u32, Content)> {
        let block = *self.known.get(key)?;
        self.blocks[block as usize].content.map(|(_, content)| (block, content))
    }

    /// Makes the content of a full block known, and returns the block to use from now on: another one, if
    /// that has the same content already. Equal content is equal to the bit.
    pub(crate) fn publish(&mut self, block: u32, key: Key) -> (u32, Content) {
        if let Some((other, content)) = self.find(&key) {
            if other != block {
                self.share(other);
                self.release(block);
            }
            return (other, content);
        }
        self.contents += 1;
        let content = Content { number: self.contents, ..key.before };
        self.blocks[block as usize].content = Some((key, content));
        self.known.insert(key, block);
        (block, content)
    }

    fn forget(&mut self, block: u32) {
        if let Some((key, _)) = self.blocks[block as usize].content.take() {
            self.known.remove(&key);
        }
    }
}
