//! A step: chunks of tokens in, logits out.

use std::collections::HashSet;

use super::PackedModel;
use super::forward::{Batch, MAX_ROWS, Row};
use super::isa::LANES;
use super::kv::{SequenceId, Sequences};
use super::lora::AdapterWeights;
use super::shared::Shared;
use crate::lora::Adapter;

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
        let Arrangement { rows, tables, chosen, adapters } = arrange(&self.sequences, chunks)?;
        self.engine.extend_to(rows.iter().map(|row| row.position + 1).max().unwrap_or(0));
        let stride = self.vocabulary.next_multiple_of(LANES);
        let logits = Shared::from(vec![0.0; chosen.len() * stride]);
        for (index, pass) in rows.chunks(MAX_ROWS).enumerate() {
            let start = index * MAX_ROWS;
            let range = start..start + pass.len();
            let here = chosen.iter().filter(|(row, _)| range.contains(row));
            let (chosen, places): (Vec<_>, Vec<_>) = here.map(|(row, place)| (row - start, *place)).unzip();
            let batch = Batch {
                rows: pass,
                tables: &tables,
                adapters: &adapters,
                chosen: &chosen,
                logits: &logits,
                places: &places,
            };
            self.engine.pass(&batch).map_err(|panic| StepError::Panicked(panic.0))?;
        }
        Ok(Logits { values: logits.into_inner(), stride, vocabulary: self.vocabulary })
    }
}

/// The rows of a step, those of an adapter together.
struct Arrangement<'a> {
    rows: Vec<Row>,
    /// Blocks of each chunk's sequence.
    tables: Vec<&'a [u32]>,
    /// Rows whose logits are wanted, and which rows of logits are theirs.
    chosen: Vec<(usize, usize)>,
    adapters: Vec<&'a AdapterWeights>,
}

fn arrange<'a>(sequences: &'a Sequences, chunks: &[Chunk<'_>]) -> Result<Arrangement<'a>, StepError> {
    let open = |chunk: &Chunk<'_>| sequences.get(chunk.sequence).ok_or(StepError::Closed(chunk.sequence));
    let opened = chunks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let wanted = chunks.iter().scan(0, |wanted, chunk| {
        let place = chunk.logits.then_some(*wanted);
        *wanted += usize::from(chunk.logits);
        Some(place)
    });
    let places: Vec<Option<usize>> = wanted.collect();
    let version = |index: usize| opened[index].adapter.as_ref().map(Adapter::version);
    let mut order: Vec<usize> = (0..chunks.len()).collect();
    order.sort_by_key(|index| version(*index));
    let (mut rows, mut chosen, mut adapters) = (Vec::new(), Vec::new(), Vec::new());
    let mut latest = None;
    for index in order {
        let (sequence, chunk) = (opened[index], &chunks[index]);
        if let Some(adapter) = &sequence.adapter
            && latest != Some(adapter.version())
        {
            latest = Some(adapter.version());
            adapters.push(adapter.weights());
        }
        let adapter = sequence.adapter.as_ref().map(|_| adapters.len() - 1);
        let positions = sequence.length..;
        rows.extend(chunk.tokens.iter().zip(positions).map(|(token, position)| Row {
            token: *token,
            sequence: index,
            position,
            adapter,
        }));
        chosen.extend(places[index].map(|place| (rows.len() - 1, place)));
    }
    let tables = opened.iter().map(|sequence| sequence.table.as_slice()).collect();
    Ok(Arrangement { rows, tables, chosen, adapters })
}
