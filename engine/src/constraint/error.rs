//! Why a grammar is refused, or an answer cannot go on under it.

use std::time::Duration;

/// Why a grammar is refused. The request is at fault, but for `Busy` and `Vocabulary`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A schema's keyword, or the value of one, cannot be enforced. Nothing is ignored silently.
    #[error("{at}: {keyword} is not supported{hint}")]
    Unsupported {
        /// The keyword, with its value where that is what is not supported.
        keyword: String,
        /// Where in the schema, as a JSON pointer.
        at: String,
        /// What would be accepted; empty, or beginning with a separator.
        hint: String,
    },
    /// A keyword's value is not what JSON Schema asks for.
    #[error("{at}: {keyword} must be {expected}")]
    Malformed {
        /// The keyword.
        keyword: String,
        /// Where in the schema, as a JSON pointer.
        at: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A size beyond a limit.
    #[error("the grammar has {found} {what}; at most {limit} are accepted")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many there are, or how many were counted before it was given up.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The grammar cannot be compiled: it is malformed, contradicts itself, or takes too much to compile.
    #[error("the grammar cannot be used: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// Compiling took too long.
    #[error("the grammar took more than {} s to compile: simplify it", limit.as_secs())]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// As many grammars as are allowed to are being compiled; the same request may succeed later.
    #[error("{limit} grammars are being compiled: try again later")]
    Busy {
        /// How many may be compiled at a time.
        limit: usize,
    },
    /// The model's vocabulary does not allow constraints.
    #[error("this model's answers cannot be constrained: {reason}")]
    Vocabulary {
        /// What stands in the way.
        reason: String,
    },
}

impl GrammarError {
    /// True if the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}

/// Why an answer cannot go on under its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The tokens just chosen, or the next mask, need more than the fuel that one step may take. The same tokens always
    /// end here.
    #[error("the grammar became too complex to follow: {reason}")]
    TooComplex {
        /// What ran out.
        reason: String,
    },
    /// The next mask took too long.
    #[error("the grammar took more than {} ms for one token", limit.as_millis())]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// Tokens that the last mask did not allow.
    #[error("the mask does not allow the tokens {tokens:?}")]
    Strayed {
        /// The tokens.
        tokens: Vec<u32>,
    },
    /// Called out of turn: tokens were handed over before the mask for them was taken.
    #[error("tokens were given to a constraint that is still computing")]
    OutOfTurn,
    /// The helper thread is gone.
    #[error("the thread that computes masks has ended")]
    Stopped,
}

/// A library's message on one line, of bounded length, without what follows its first empty or tagged line.
pub(super) fn brief(message: &str) -> String {
    const MOST: usize = 300;
    let lines = message.lines().map(str::trim);
    let told = lines.take_while(|line| !matches!(*line, "<non-verbose/>" | "<state>" | "<backtrace>"));
    let text = told.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    text.chars().take(MOST).collect()
}
