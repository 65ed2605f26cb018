//! One request being computed.

use std::cmp::Reverse;

use tokio::sync::mpsc::UnboundedSender;

use super::Vocabulary;
use super::queue::Job;
use crate::backend::{Backend, Chunk, SequenceId};
use crate::sampler::Sampler;
use crate::text::TextStream;
use crate::{Adapter, Event, FinishReason, GenerationError, Priority, Usage};

/// A request and how far it has come.
pub(super) struct Running {
    pub(super) id: u64,
    pub(super) priority: Priority,
    events: UnboundedSender<Event>,
    /// The prompt, then what was generated.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    max_tokens: usize,
    /// What it is computed with, to its end.
    adapter: Option<Adapter>,
    /// Its cache; `None` while it is set aside.
    sequence: Option<SequenceId>,
    /// Tokens in the cache: always fewer than all.
    computed: usize,
    /// Prompt tokens that an event has told of.
    told_prompt: usize,
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
    pub(super) fn new(job: Job, turn: u64) -> Self {
        let Job { id, request, sampler, events } = job;
        Self {
            id,
            priority: request.priority,
            events,
            prompt_tokens: request.prompt.len(),
            tokens: request.prompt,
            max_tokens: request.max_tokens,
            adapter: request.adapter,
            sequence: None,
            computed: 0,
            told_prompt: 0,
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

    /// True if the next step is one token: the last one generated.
    pub(super) fn decoding(&self) -> bool {
        self.sequence.is_some() && self.computed >= self.prompt_tokens && self.pending() == 1
    }

    /// Order of prefill: by priority, then whoever waited longest.
    pub(super) fn prefill_order(&self) -> (Reverse<Priority>, u64) {
        (Reverse(self.priority), self.turn)
    }

    /// Tokens to compute before the next can be chosen.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Notes a turn of prefill.
    pub(super) fn take_turn(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// Makes sure that it has a sequence.
    pub(super) fn open(&mut self, backend: &mut dyn Backend) {
        if self.sequence.is_none() {
            let (sequence, cached) = backend.open(&self.tokens, self.adapter.as_ref());
            self.sequence = Some(sequence);
            self.computed = cached;
        }
    }

    /// Gives its cache back. What it had in it is computed again, if it goes on.
    pub(super) fn close(&mut self, backend: &mut dyn Backend) {
        if let Some(sequence) = self.sequence.take() {
            backend.close(sequence);
        }
        self.computed = 0;
    }

    /// Lets go of its adapter, when it has ended: who reads its last event finds that memory free.
    pub(super) fn release_adapter(&mut self) {
        self.adapter = None;
    }

    /// Its next `count` tokens, for a step; `None` while it is set aside.
    pub(super) fn chunk(&self, count: usize) -> Option<Chunk<'_>> {
        let tokens = &self.tokens[self.computed..self.computed + count];
        Some(Chunk { sequence: self.sequence?, tokens, logits: count == self.pending() })
    }

    /// Takes note that its next `count` tokens were computed and, if they were the last, chooses the next from `logits`.
    pub(super) fn advance(
        &mut self,
        count: usize,
        logits: Option<&[f32]>,
        words: &dyn Vocabulary,
    ) -> Result<Step, GenerationError> {
        self.computed += count;
        let prefilled = self.computed.min(self.prompt_tokens);
        if prefilled > self.told_prompt {
            self.tell(Event::Prefilled { tokens: prefilled - self.told_prompt });
            self.told_prompt = prefilled;
        }
        match logits {
            Some(logits) => self.choose(logits, words),
            None => Ok(Step::Going),
        }
    }

    /// Tokens generated so far.
    pub(super) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
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
        self.tokens.push(token);
        self.untold += 1;
        let piece = self.text.push(words.bytes(token));
        if piece.stopped {
            return Ok(self.finish(piece.text, FinishReason::Stop));
        }
        if self.generated() == self.max_tokens {
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
        let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.generated() };
        Step::Done(Event::Finished { reason, usage })
    }

    fn tell_text(&mut self, text: String) {
        let tokens = std::mem::take(&mut self.untold);
        self.tell(Event::Token { text, tokens });
    }
}
