//! Sets of tokens.

/// The tokens that may come next, as bits.
///
/// A sampler goes through [`TokenMask::words`] once, with 32 logits per word: a word of zeros is skipped whole, one of
/// ones needs no look at its bits. Tokens whose bit is clear count as having a logit of minus infinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    tokens: usize,
}

impl TokenMask {
    /// `words` as [`TokenMask::words`] describes them; words and bits beyond `tokens` are dropped.
    pub(super) fn new(mut words: Vec<u32>, tokens: usize) -> Self {
        words.truncate(tokens.div_ceil(32));
        if let (Some(last), over @ 1..) = (words.get_mut(tokens / 32), tokens % 32) {
            *last &= (1 << over) - 1;
        }
        Self { words, tokens }
    }

    /// Bit `token % 32`, counted from the lowest, of word `token / 32` is set if the token may come next.
    /// `vocab_size` bits rounded up to whole words, the bits above clear.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether `token` may come next.
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Number of tokens that may come next.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.tokens
    }

    /// The tokens that may come next, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).step_by(32).zip(&self.words).flat_map(|(first, word)| {
            let rest = |left: &u32| Some(left & left.wrapping_sub(1));
            std::iter::successors(Some(*word), rest)
                .take_while(|left| *left != 0)
                .map(move |left| first + left.trailing_zeros())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::TokenMask;

    #[test]
    fn bits_are_read_in_order_and_those_beyond_the_vocabulary_are_dropped() {
        let mask = TokenMask::new(vec![1 << 31 | 0b101, u32::MAX, u32::MAX], 35);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 2, 31, 32, 33, 34]);
        assert_eq!((mask.count(), mask.vocab_size(), mask.words().len()), (6, 35, 2));
        assert!(mask.allows(34) && !mask.allows(35) && !mask.allows(1) && !mask.allows(u32::MAX));
        assert_eq!(TokenMask::new(vec![u32::MAX], 32).count(), 32);
    }
}
