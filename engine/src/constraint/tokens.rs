//! The vocabulary as `llguidance` wants it: a trie over the bytes of all tokens.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::GrammarError;
use super::error::brief;
use crate::tokenizer::Tokenizer;

/// Longest token that an answer under a grammar can contain, in bytes; the trie can go no deeper than 1,024.
const MAX_TOKEN_BYTES: usize = 512;

/// Bytes of all tokens together: the trie can hold 2^22 nodes, at most one per byte. Gemma's 262,144 tokens take 2 MB.
const MAX_VOCABULARY_BYTES: usize = (1 << 22) - 1024;

/// Token ids have 24 bits in the trie.
const MAX_TOKENS: usize = (1 << 24) - 2;

/// Fuel of one compilation and of one mask, in the library's units (some 14 to 50 per microsecond), and sizes. A mask
/// that uses all of its fuel takes some tens of milliseconds.
const INITIAL_FUEL: u64 = 500_000;
const STEP_FUEL: u64 = 100_000;
const STEP_ITEMS: usize = 50_000;
/// A state takes one to two kilobytes.
const LEXER_STATES: usize = 20_000;
const GRAMMAR_SYMBOLS: usize = 200_000;

/// A model's tokens and how it cuts text into them.
struct TokenTable {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl TokenizerEnv for TokenTable {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the model was trained to see it; by longest tokens where that does not give the bytes back, as with bytes
    /// that are no whole characters or a tokenizer that adds a space.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let mut ids = self.tokenizer.encode(text).unwrap_or_default();
            ids.retain(|id| !self.trie.token(*id).is_empty());
            let spelled = ids.iter().flat_map(|id| self.trie.token(*id)).copied();
            if spelled.eq(text.bytes()) { ids } else { self.trie.greedy_tokenize(text.as_bytes()) }
        })
    }
}

/// What compiles grammars over the tokenizer's vocabulary.
pub(super) fn factory(tokenizer: &Arc<Tokenizer>) -> Result<ParserFactory, GrammarError> {
    let table = TokenTable { trie: trie(tokenizer)?, tokenizer: Arc::clone(tokenizer) };
    let environment: TokEnv = Arc::new(table);
    let slices = SlicedBiasComputer::json_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| GrammarError::Vocabulary { reason: brief(&error.to_string()) })?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.initial_lexer_fuel = INITIAL_FUEL;
    limits.step_lexer_fuel = STEP_FUEL;
    limits.step_max_items = STEP_ITEMS;
    limits.max_lexer_states = LEXER_STATES;
    limits.max_grammar_size = GRAMMAR_SYMBOLS;
    limits.verbose_errors = false;
    Ok(factory)
}

/// Control tokens have no bytes and are in no mask, but for those that end the answer.
fn trie(tokenizer: &Tokenizer) -> Result<TokTrie, GrammarError> {
    let refused = |reason: String| Err(GrammarError::Vocabulary { reason });
    let tokens = tokenizer.vocab_size();
    if tokens > MAX_TOKENS {
        return refused(format!("it has {tokens} tokens; at most {MAX_TOKENS} are supported"));
    }
    let ids = 0..tokens as u32;
    let words: Vec<Vec<u8>> = ids.clone().map(|id| spelled(tokenizer.bytes(id))).collect();
    let bytes: usize = words.iter().map(Vec::len).sum();
    if bytes > MAX_VOCABULARY_BYTES {
        return refused(format!(
            "its tokens have {bytes} bytes together; at most {MAX_VOCABULARY_BYTES} are supported"
        ));
    }
    let endings: Vec<u32> = ids.filter(|id| tokenizer.ends(*id)).collect();
    let Some(first) = endings.first() else {
        return refused("it names no token that ends an answer".to_owned());
    };
    Ok(TokTrie::from(&TokRxInfo::new(tokens as u32, *first), &words).with_eos_tokens(&endings))
}

/// 0xff, which is in no UTF-8, is the library's mark of control tokens: a token with it must not be taken for one.
fn spelled(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() > MAX_TOKEN_BYTES || bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
        return Vec::new();
    }
    bytes.to_vec()
}
