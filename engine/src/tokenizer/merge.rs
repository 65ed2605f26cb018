//! Merging pairs of neighbours, best first, until none is left that merges: the step that all BPE
//! tokenizers share.
//!
//! Neighbours are a linked list, candidates a heap: n symbols take O(n log n), whatever they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Id of a symbol that is no token, and the end of the list.
pub(super) const NONE: u32 = u32::MAX;

/// A piece of the text: `start..end` in bytes, and the token that it is, or [`NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) id: u32,
}

/// What two neighbours may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merge {
    /// The highest is done first; of equals, the leftmost.
    pub(super) priority: u32,
    /// The token that the two become.
    pub(super) id: u32,
}

/// The lists of one merging, kept for the next.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// Previous and next of each symbol.
    links: Vec<(u32, u32)>,
    queue: BinaryHeap<Candidate>,
}

/// Ordered by its fields, the first first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u32,
    left: Reverse<u32>,
    right: u32,
    /// Bytes of both: if another merge came first, they have changed.
    bytes: u32,
    id: u32,
}

impl Merger {
    /// Merges `symbols`, which must be neighbours in order and not empty, and gives what is left to `out`.
    pub(super) fn merge(
        &mut self,
        symbols: impl Iterator<Item = Symbol>,
        pair: impl Fn(Symbol, Symbol) -> Option<Merge>,
        mut out: impl FnMut(Symbol),
    ) {
        self.queue.clear();
        self.symbols.clear();
        self.symbols.extend(symbols);
        let count = self.symbols.len() as u32;
        let neighbours =
            (0..count).map(|at| (at.wrapping_sub(1), if at + 1 == count { NONE } else { at + 1 }));
        self.links.clear();
        self.links.extend(neighbours);
        for left in 1..count {
            self.offer(left - 1, left, &pair);
        }
        while let Some(best) = self.queue.pop() {
            let (left, right) = (best.left.0, best.right);
            if self.bytes(left) == 0
                || self.bytes(right) == 0
                || self.bytes(left) + self.bytes(right) != best.bytes
            {
                continue;
            }
            self.join(left, right, best.id);
            let (previous, next) = self.links[left as usize];
            self.offer(previous, left, &pair);
            self.offer(left, next, &pair);
        }
        self.symbols.iter().filter(|symbol| symbol.start < symbol.end).for_each(|symbol| out(*symbol));
    }

    fn bytes(&self, at: u32) -> u32 {
        let symbol = self.symbols[at as usize];
        symbol.end - symbol.start
    }

    fn join(&mut self, left: u32, right: u32, id: u32) {
        let gone = &mut self.symbols[right as usize];
        let end = std::mem::replace(&mut gone.end, gone.start);
        let joined = &mut self.symbols[left as usize];
        (joined.end, joined.id) = (end, id);
        let next = self.links[right as usize].1;
        self.links[left as usize].1 = next;
        if next != NONE {
            self.links[next as usize].0 = left;
        }
    }

    fn offer(&mut self, left: u32, right: u32, pair: &impl Fn(Symbol, Symbol) -> Option<Merge>) {
        if left == NONE || right == NONE {
            return;
        }
        if let Some(merge) = pair(self.symbols[left as usize], self.symbols[right as usize]) {
            let Merge { priority, id } = merge;
            let bytes = self.bytes(left) + self.bytes(right);
            self.queue.push(Candidate { priority, left: Reverse(left), right, bytes, id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pair of letters merges if its text is in the list; earlier is better.
    const MERGES: [&str; 8] = ["ab", "bc", "abc", "aa", "aaaa", "cab", "aab", "bb"];

    fn pair(text: &str, left: Symbol, right: Symbol) -> Option<Merge> {
        let joined = &text[left.start as usize..right.end as usize];
        let rank = MERGES.iter().position(|merge| *merge == joined)? as u32;
        Some(Merge { priority: NONE - rank, id: rank })
    }

    fn letters(text: &str) -> impl Iterator<Item = Symbol> {
        (0..text.len() as u32).map(|at| Symbol { start: at, end: at + 1, id: NONE })
    }

    fn merged(text: &str) -> Vec<Symbol> {
        let mut out = Vec::new();
        Merger::default().merge(
            letters(text),
            |left, right| pair(text, left, right),
            |symbol| out.push(symbol),
        );
        out
    }

    /// The definition: look at all pairs, do the best, begin again.
    fn by_definition(text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = letters(text).collect();
        loop {
            let pairs = symbols.windows(2).enumerate();
            let possible = pairs.filter_map(|(at, two)| Some((pair(text, two[0], two[1])?, Reverse(at))));
            let Some((merge, Reverse(at))) = possible.max_by_key(|(merge, at)| (merge.priority, *at)) else {
                return symbols;
            };
            symbols[at].end = symbols[at + 1].end;
            symbols[at].id = merge.id;
            symbols.remove(at + 1);
        }
    }

    #[test]
    fn nothing_and_one_symbol_stay() {
        assert_eq!(merged(""), []);
        assert_eq!(merged("a"), [Symbol { start: 0, end: 1, id: NONE }]);
    }

    #[test]
    fn a_long_run_is_merged_in_one_go() {
        let ids: Vec<u32> = merged(&"a".repeat(1 << 20)).into_iter().map(|symbol| symbol.id).collect();
        assert_eq!(ids, vec![4; 1 << 18]);
    }

    proptest! {
        #[test]
        fn merging_is_as_defined(text in "[abc]{0,40}") {
            prop_assert_eq!(merged(&text), by_definition(&text));
        }
    }
}
