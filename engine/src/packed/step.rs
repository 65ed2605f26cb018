//! A step: chunks of tokens in, logits out.

use std::collections::HashSet;

use super::PackedModel;
use super::forward::{Batch, MAX_ROWS, Row};
use super::isa::LANES;
use super::kv::SequenceId;
use super::shared::Shared;

/// Tokens to append to a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The sequence.
    pub sequence: SequenceId,
    /// What to append, at least one token.
    pub tokens: &'a [u32],
    /// Whether the logits after the last token are wanted.
    pub logits: bool,
}

/// Logits of the chunks that asked for them, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Box<[f32]>,
    stride: usize,
    vocabulary: usize,
}

impl Logits {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.stride
    }

    /// True if no chunk asked for logits.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One row: a value for each token id.
    ///
    /// # Panics
    /// If there are not that many rows.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..][..self.vocabulary]
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.stride).map(|row| &row[..self.vocabulary])
    }
}

/// Why a step was not done. Whatever the reason, no sequence has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The KV cache has no room: close a sequence and try again.
    #[error("the KV cache is full: {needed} blocks of 16 tokens are needed, {available} are free")]
    Full {
        /// Blocks that the step needs.
        needed: usize,
        /// Blocks that are free.
        available: usize,
    },
    /// The sequence is not open.
    #[error("sequence {0:?} is not open")]
    Closed(SequenceId),
    /// Two chunks are for the same sequence.
    #[error("sequence {0:?} has two chunks in one step; it may have one")]
    Twice(SequenceId),
    /// A chunk without tokens.
    #[error("the chunk for sequence {0:?} has no tokens; it must have at least one")]
    Empty(SequenceId),
    /// A token that the model does not have.
    #[error("token {token} is not below {vocabulary}, the size of the vocabulary")]
    Token {
        /// The token.
        token: u32,
        /// Number of token ids.
        vocabulary: usize,
    },
    /// A sequence would become too long.
    #[error("sequence {sequence:?} would have {length} tokens; the context has room for {context}")]
    TooLong {
        /// The sequence.
        sequence: SequenceId,
        /// Its length after the step.
        length: usize,
        /// `PackedModel::context_length`.
        context: usize,
    },
    /// The computation panicked: a bug. The model can be used further.
    #[error("the engine panicked while computing a step: {0}")]
    Panicked(String),
}

impl PackedModel {
    /// Appends each chunk's tokens to its sequence, all in one go. Returns one row of logits per chunk that
    /// asks for it, after its last token.
    ///
    /// # Errors
    /// See [`StepError`]. Nothing has changed then.
    pub fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Logits, StepError> {
        self.check(chunks)?;
        let wanted: Vec<_> = chunks.iter().map(|chunk| (chunk.sequence, chunk.tokens.len())).collect();
        let copies = self.sequences.reserve(&wanted);
        let copies =
            copies.map_err(|full| StepError::Full { needed: full.needed, available: full.available })?;
        for (from, to) in copies {
            self.engine.copy(from, to);
        }
        let logits = self.compute(chunks)?;
        for chunk in chunks {
            self.sequences.commit(chunk.sequence, chunk.tokens);
        }
        Ok(logits)
    }

    fn check(&self, chunks: &[Chunk<'_>]) -> Result<(), StepError> {
        let mut seen = HashSet::new();
        let (vocabulary, context) = (self.vocabulary, self.context);
        for Chunk { sequence, tokens, .. } in chunks {
            let length = self.length(*sequence).ok_or(StepError::Closed(*sequence))?;
            let length = length.saturating_add(tokens.len());
            if !seen.insert(sequence) {
                return Err(StepError::Twice(*sequence));
            }
            if tokens.is_empty() {
                return Err(StepError::Empty(*sequence));
            }
            if length > context {
                return Err(StepError::TooLong { sequence: *sequence, length, context });
            }
            if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
                return Err(StepError::Token { token: *token, vocabulary });
            }
        }
        Ok(())
    }

    /// Runs the passes of a step for which there is room.
    fn compute(&mut self, chunks: &[Chunk<'_>]) -> Result<Logits, StepError> {
        let (mut rows, mut tables, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
        for (index, chunk) in chunks.iter().enumerate() {
            let sequence = self.sequences.get(chunk.sequence).ok_or(StepError::Closed(chunk.sequence))?;
            let positions = sequence.length..;
            tables.push(sequence.table.as_slice());
            rows.extend(chunk.tokens.iter().zip(positions).map(|(token, position)| Row {
                token: *token,
                sequence: index,
                position,
            }));
            if chunk.logits {
                chosen.push(rows.len() - 1);
            }
        }
        self.engine.extend_to(rows.iter().map(|row| row.position + 1).max().unwrap_or(0));
        let stride = self.vocabulary.next_multiple_of(LANES);
        let logits = Shared::from(vec![0.0; chosen.len() * stride]);
        let mut first_logits = 0;
        for (index, pass) in rows.chunks(MAX_ROWS).enumerate() {
            let start = index * MAX_ROWS;
            let range = start..start + pass.len();
            let chosen: Vec<usize> =
                chosen.iter().filter(|row| range.contains(*row)).map(|row| row - start).collect();
            let batch = Batch { rows: pass, tables: &tables, chosen: &chosen, logits: &logits, first_logits };
            self.engine.pass(&batch).map_err(|panic| StepError::Panicked(panic.0))?;
            first_logits += chosen.len();
        }
        Ok(Logits { values: logits.into_inner(), stride, vocabulary: self.vocabulary })
    }
}
