//! Answers of a given form: JSON of a schema, a regular expression, one of some texts.
//!
//! A [`Grammar`] is what a request asks for. [`Constraints::compile`] checks and compiles it, in bounded time and memory,
//! before the request is queued. Each answer then has its own [`Constraint`], which says before every choice which tokens
//! may come next, as a set of bits ([`TokenMask`]). The sets are computed by one helper thread while the model computes
//! logits: an answer whose set is late sits out a step, the others go on.
//!
//! A set is a function of the grammar, the tokenizer and the tokens so far, so seeds stay reproducible. It is computed
//! by `llguidance`: an Earley parser over a lexer of regular-expression derivatives, walked along the trie of all tokens.

mod compile;
mod error;
mod expansion;
mod helper;
mod keywords;
mod mask;
mod patterns;
mod sequence;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use llguidance::ParserFactory;

pub use compile::{CompiledGrammar, Grammar};
pub use error::{ConstraintError, GrammarError};
pub use mask::TokenMask;

use crate::tokenizer::Tokenizer;
use compile::Slots;
use helper::Helper;
pub use sequence::{Constraint, Next};

impl std::fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Constraint").finish_non_exhaustive()
    }
}

/// What one loaded model needs to constrain its answers. Its tables are built at the first constrained request: they
/// take some megabytes, and most engines never need them.
pub(crate) struct Constraints {
    tokenizer: Arc<Tokenizer>,
    factory: OnceLock<Result<Arc<ParserFactory>, GrammarError>>,
    slots: Arc<Slots>,
    helper: OnceLock<Helper>,
}

impl Constraints {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, factory: OnceLock::new(), slots: Arc::default(), helper: OnceLock::new() }
    }

    /// Checks and compiles a grammar. Blocks for some milliseconds, at worst for a few seconds: call it outside an
    /// async runtime's threads.
    pub(crate) fn compile(&self, grammar: &Grammar) -> Result<CompiledGrammar, GrammarError> {
        let factory = self.factory()?;
        compile::compile(factory, grammar, &self.slots, self.helper.get_or_init(Helper::start))
    }

    fn factory(&self) -> Result<&Arc<ParserFactory>, GrammarError> {
        self.factory
            .get_or_init(|| tokens::factory(&self.tokenizer).map(Arc::new))
            .as_ref()
            .map_err(Clone::clone)
    }
}
