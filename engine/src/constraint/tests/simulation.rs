//! A stand-in for the scheduler: it chooses at random, or greedily from noise, under the masks.

use std::task::Poll;
use std::time::Duration;

use super::{CONSTRAINTS, TOKENIZER};
use crate::FinishReason;
use crate::constraint::{CompiledGrammar, Constraint, ConstraintError, Grammar, Next};

/// How the stand-in chooses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Choice {
    /// Any allowed token.
    Any,
    /// Always the allowed token that the seed ranks first, as a greedy sampler takes the likeliest.
    Greedy,
    /// Any allowed token, but one that ends the answer or closes something as soon as it is allowed.
    Short,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    pub(super) reason: FinishReason,
}

/// Xorshift: any spread of numbers will do.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound as u64) as usize
    }
}

pub(super) fn compiled(grammar: &Grammar) -> CompiledGrammar {
    CONSTRAINTS.compile(grammar).unwrap_or_else(|error| panic!("{grammar:?}: {error}"))
}

/// Waits for the next mask, however long it takes.
pub(super) fn settled(constraint: &mut Constraint) -> Result<Option<Vec<u32>>, ConstraintError> {
    loop {
        if let Poll::Ready(next) = constraint.wait(Duration::from_secs(1)) {
            return match next? {
                Next::Complete => Ok(None),
                Next::Choose { mask, forced } => {
                    let allowed: Vec<u32> = mask.iter().collect();
                    if let Some(first) = forced.first() {
                        assert_eq!(allowed, [*first], "a forced token is the only one allowed");
                    }
                    Ok(Some(allowed))
                }
            };
        }
    }
}

/// One answer, token by token.
pub(super) fn answer(
    grammar: &CompiledGrammar,
    choice: Choice,
    seed: u64,
    max_tokens: usize,
) -> Result<Answer, ConstraintError> {
    let mut constraint = grammar.start();
    let mut noise = Noise::new(seed);
    let ranked = |token: &&u32| Noise::new(seed ^ (u64::from(**token) << 20)).below(1 << 30);
    let (mut tokens, mut reason) = (Vec::new(), FinishReason::Length);
    while tokens.len() < max_tokens {
        let Some(allowed) = settled(&mut constraint)? else {
            reason = FinishReason::Stop;
            break;
        };
        let token = match choice {
            Choice::Greedy => *allowed.iter().max_by_key(ranked).expect("a mask is never empty"),
            _ => pick(&allowed, choice, &mut noise),
        };
        if TOKENIZER.ends(token) {
            reason = FinishReason::Stop;
            break;
        }
        tokens.push(token);
        constraint.begin(&[token])?;
    }
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| TOKENIZER.bytes(*token)).copied().collect();
    let text = match reason {
        FinishReason::Length => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::from_utf8(bytes).expect("a complete answer is whole characters"),
    };
    Ok(Answer { text, tokens, reason })
}

pub(super) fn pick(allowed: &[u32], choice: Choice, noise: &mut Noise) -> u32 {
    if let Choice::Short = choice {
        let closes = |token: &&u32| {
            let bytes = TOKENIZER.bytes(**token);
            TOKENIZER.ends(**token) || matches!(bytes, b"\"" | b"}" | b"]")
        };
        if let Some(token) = allowed.iter().find(closes) {
            return *token;
        }
    }
    allowed[noise.below(allowed.len())]
}
