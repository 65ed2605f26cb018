//! The cache of keys and values: blocks of 16 positions, lent to sequences from a pool of fixed size.

mod blocks;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::lora::Adapter;
use blocks::{Blocks, Content, Key};
pub(crate) use store::{Geometry, HeadView, POSITIONS, Store};

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// IEEE half precision: half the memory, rounded once to 11 bits.
    F16,
    /// Single precision.
    F32,
}

impl KvType {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Which sequences may share what they have computed of equal beginnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those that bear the same number, whatever it stands for.
    Shared(u128),
    /// None: its blocks are nobody else's, before and after it is closed.
    Private,
}

impl Default for Scope {
    fn default() -> Self {
        Self::Shared(0)
    }
}

/// How full the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvUse {
    /// Tokens in a block.
    pub block_tokens: usize,
    /// Blocks in all.
    pub blocks: usize,
    /// Blocks that no sequence uses, including those whose content is kept because a prompt may begin with it.
    pub available: usize,
    /// Of the available ones, those whose content is kept.
    pub cached: usize,
}

/// Names a sequence of one model; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

impl SequenceId {
    /// The name of a sequence of another backend, which counts its own.
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// What a sequence has in the cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sequence {
    /// Blocks in the order of positions.
    pub(crate) table: Vec<u32>,
    /// Positions that are filled.
    pub(crate) length: usize,
    /// Whose blocks it shares.
    scope: Scope,
    /// What is added to the model's products for it.
    pub(crate) adapter: Option<Adapter>,
    /// The content of its full blocks.
    chain: Content,
    /// Tokens of its last block, while that is not full.
    tail: Vec<u32>,
}

/// There are not enough unused blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolFull {
    /// Blocks needed.
    pub(crate) needed: usize,
    /// Blocks available.
    pub(crate) available: usize,
}

/// A block to be copied before it is written: from, to.
pub(crate) type Copies = Vec<(u32, u32)>;

/// All sequences and their blocks.
pub(crate) struct Sequences {
    blocks: Blocks,
    open: HashMap<SequenceId, Sequence>,
    opened: u64,
}

impl Sequences {
    /// No sequences, `blocks` blocks.
    pub(crate) fn new(blocks: usize) -> Self {
        Self { blocks: Blocks::new(blocks), open: HashMap::new(), opened: 0 }
    }

    /// Blocks that are free or can be made so.
    pub(crate) fn available(&self) -> usize {
        self.blocks.available()
    }

    /// How full the cache is.
    pub(crate) fn kv_use(&self) -> KvUse {
        let (blocks, available, cached) =
            (self.blocks.count(), self.blocks.available(), self.blocks.cached());
        KvUse { block_tokens: POSITIONS, blocks, available, cached }
    }

    /// Opens a sequence that begins with as many of the prompt's tokens as are cached in the same scope and under the same
    /// adapter, but never all.
    pub(crate) fn open(
        &mut self,
        scope: Scope,
        prompt: &[u32],
        adapter: Option<&Adapter>,
    ) -> (SequenceId, usize) {
        let chain = Content::before_all(adapter.map_or(0, Adapter::version));
        let mut sequence = Sequence { scope, adapter: adapter.cloned(), chain, ..Sequence::default() };
        let shared = matches!(scope, Scope::Shared(_));
        let reusable = if shared { prompt.len().saturating_sub(1) / POSITIONS } else { 0 };
        for tokens in prompt.as_chunks().0.iter().take(reusable) {
            let key = Key { scope, before: sequence.chain, tokens: *tokens };
            let Some((block, content)) = self.blocks.find(&key) else { break };
            self.blocks.share(block);
            sequence.table.push(block);
            sequence.chain = content;
            sequence.length += POSITIONS;
        }
        let length = sequence.length;
        (self.insert(sequence), length)
    }

    /// Opens a sequence that begins as another is now. Blocks are shared until one of the two writes.
    pub(crate) fn fork(&mut self, of: SequenceId) -> Option<SequenceId> {
        let sequence = self.open.get(&of)?.clone();
        sequence.table.iter().for_each(|block| self.blocks.share(*block));
        Some(self.insert(sequence))
    }

    fn insert(&mut self, sequence: Sequence) -> SequenceId {
        self.opened += 1;
        self.open.insert(SequenceId(self.opened), sequence);
        SequenceId(self.opened)
    }

    /// Closes a sequence, if it is open.
    pub(crate) fn close(&mut self, id: SequenceId) {
        let Some(sequence) = self.open.remove(&id) else { return };
        // From the end, so that the blocks that fewer prompts share are evicted first.
        sequence.table.iter().rev().for_each(|block| self.blocks.release(*block));
    }

    /// A sequence that is open.
    pub(crate) fn get(&self, id: SequenceId) -> Option<&Sequence> {
        self.open.get(&id)
    }

    /// Gives all these open sequences room for so many more tokens, or changes nothing. The blocks returned
    /// must be copied before the room is used.
    pub(crate) fn reserve(&mut self, wanted: &[(SequenceId, usize)]) -> Result<Copies, PoolFull> {
        let needed = wanted.iter().map(|(id, tokens)| self.missing(*id, *tokens)).sum();
        let available = self.blocks.available();
        if needed > available {
            return Err(PoolFull { needed, available });
        }
        let mut copies = Copies::new();
        for (id, tokens) in wanted {
            let Some(sequence) = self.open.get_mut(id) else { continue };
            let blocks = &mut self.blocks;
            let take = |blocks: &mut Blocks| blocks.take().expect("as many blocks as were counted");
            if let Some(shared) = sequence.unfinished().filter(|block| blocks.is_shared(**block)) {
                let own = take(blocks);
                copies.push((*shared, own));
                blocks.release(*shared);
                *shared = own;
            }
            while sequence.table.len() * POSITIONS < sequence.length + tokens {
                sequence.table.push(take(blocks));
            }
        }
        Ok(copies)
    }

    /// Blocks that a sequence lacks for so many more tokens.
    fn missing(&mut self, id: SequenceId, tokens: usize) -> usize {
        let Some(sequence) = self.open.get_mut(&id) else { return 0 };
        let more = (sequence.length + tokens).div_ceil(POSITIONS).saturating_sub(sequence.table.len());
        let copied = sequence.unfinished().is_some_and(|block| self.blocks.is_shared(*block));
        more + usize::from(copied)
    }

    /// Records that a sequence's next positions have been filled with these tokens.
    pub(crate) fn commit(&mut self, id: SequenceId, tokens: &[u32]) {
        let Some(sequence) = self.open.get_mut(&id) else { return };
        for token in tokens {
            sequence.tail.push(*token);
            sequence.length += 1;
            if let Some(tokens) = sequence.tail.first_chunk().copied() {
                if let Scope::Shared(_) = sequence.scope {
                    let key = Key { scope: sequence.scope, before: sequence.chain, tokens };
                    let block = &mut sequence.table[sequence.length / POSITIONS - 1];
                    (*block, sequence.chain) = self.blocks.publish(*block, key);
                }
                sequence.tail.clear();
            }
        }
    }
}

impl Sequence {
    /// The block that has both filled and empty positions.
    fn unfinished(&mut self) -> Option<&mut u32> {
        if self.length.is_multiple_of(POSITIONS) { None } else { self.table.get_mut(self.length / POSITIONS) }
    }
}
