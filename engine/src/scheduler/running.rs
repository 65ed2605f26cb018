//! One request being computed.

use std::cmp::Reverse;

use tokio::sync::mpsc::UnboundedSender;

use super::Vocabulary;
use super::queue::Job;
use crate::backend::{Backend, Sequence};
use crate::sampler::Sampler;
use crate::text::TextStream;
use crate::{Event, FinishReason, GenerationError, Priority, Usage};

/// A request with its sequence.
pub(super) struct Running {
    pub(super) id: u64,
    sequence: Box<dyn Sequence>,
    events: UnboundedSender<Event>,
    prompt: Vec<u32>,
    priority: Priority,
    /// Prompt tokens computed.
    prefilled: usize,
    /// The token chosen last, to be computed next.
    pending: Option<u32>,
    max_tokens: usize,
    generated: usize,
    /// Generated tokens that no event has told of.
    untold: usize,
    sampler: Sampler,
    text: TextStream,
    /// When it last had a prefill turn.
    turn: u64,
}

/// Whether there is more to do.
#[derive(Debug)]
pub(super) enum Step {
    Going,
    /// The last event, to be told once the request is accounted for.
    Done(Event),
}

impl Running {
    pub(super) fn new(job: Job, backend: &dyn Backend, turn: u64) -> Self {
        let Job { id, request, sampler, events } = job;
        Self {
            id,
            sequence: backend.open(),
            events,
            prompt: request.prompt,
            priority: request.priority,
            prefilled: 0,
            pending: None,
            max_tokens: request.max_tokens,
            generated: 0,
            untold: 0,
            sampler,
            text: TextStream::new(&request.stop),
            turn,
        }
    }

    /// True once the reader has left.
    pub(super) fn abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// True once the whole prompt is computed.
    pub(super) fn decoding(&self) -> bool {
        self.pending.is_some()
    }

    /// Order of prefill: by priority, then whoever waited longest.
    pub(super) fn prefill_order(&self) -> (Reverse<Priority>, u64) {
        (Reverse(self.priority), self.turn)
    }

    /// Size of the next chunk of the prompt. Chunks begin at multiples of `chunk` whatever else runs: that
    /// keeps the computation, and so the answer, the same alone and in company.
    pub(super) fn next_chunk(&self, chunk: usize) -> usize {
        chunk.min(self.prompt.len() - self.prefilled)
    }

    /// Computes the next chunk of the prompt and, after the last, chooses the first token.
    pub(super) fn prefill(
        &mut self,
        chunk: usize,
        turn: u64,
        words: &dyn Vocabulary,
    ) -> Result<Step, GenerationError> {
        let tokens = self.next_chunk(chunk);
        let end = self.prefilled + tokens;
        let logits = forward(&mut *self.sequence, &self.prompt[self.prefilled..end])?;
        self.prefilled = end;
        self.turn = turn;
        self.tell(Event::Prefilled { tokens });
        if end < self.prompt.len() { Ok(Step::Going) } else { self.choose(&logits, words) }
    }

    /// Computes the pending token and chooses the next.
    pub(super) fn decode(&mut self, words: &dyn Vocabulary) -> Result<Step, GenerationError> {
        let Some(token) = self.pending else { return Ok(Step::Going) };
        let logits = forward(&mut *self.sequence, &[token])?;
        self.choose(&logits, words)
    }

    /// Tokens generated so far.
    pub(super) fn generated(&self) -> usize {
        self.generated
    }

    /// Hands the reader an event. One that has left is noticed before the next step.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn choose(&mut self, logits: &[f32], words: &dyn Vocabulary) -> Result<Step, GenerationError> {
        // A head padded beyond the vocabulary has columns that stand for no token.
        let logits = &logits[..logits.len().min(words.size())];
        let token = self
            .sampler
            .next(logits)
            .ok_or_else(|| GenerationError::Backend("no logit is a finite number".to_owned()))?;
        if words.ends(token) {
            let rest = self.text.finish();
            return Ok(self.finish(rest, FinishReason::Stop));
        }
        self.pending = Some(token);
        self.generated += 1;
        self.untold += 1;
        let piece = self.text.push(words.bytes(token));
        if piece.stopped {
            return Ok(self.finish(piece.text, FinishReason::Stop));
        }
        if self.generated == self.max_tokens {
            let rest = piece.text + &self.text.finish();
            return Ok(self.finish(rest, FinishReason::Length));
        }
        if !piece.text.is_empty() {
            self.tell_text(piece.text);
        }
        Ok(Step::Going)
    }

    fn finish(&mut self, rest: String, reason: FinishReason) -> Step {
        if self.untold > 0 || !rest.is_empty() {
            self.tell_text(rest);
        }
        let usage = Usage { prompt_tokens: self.prompt.len(), completion_tokens: self.generated };
        Step::Done(Event::Finished { reason, usage })
    }

    fn tell_text(&mut self, text: String) {
        let tokens = std::mem::take(&mut self.untold);
        self.tell(Event::Token { text, tokens });
    }
}

fn forward(sequence: &mut dyn Sequence, tokens: &[u32]) -> Result<Vec<f32>, GenerationError> {
    sequence.forward(tokens).map_err(GenerationError::Backend)
}
