//! One request being computed.

use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::Vocabulary;
use super::plan::Candidate;
use super::queue::Job;
use super::standing::Standing;
use super::stats::{Counters, add};
use crate::backend::{Backend, Chunk, SequenceId};
use crate::packed::Scope;
use crate::sampler::{Distribution, Sampler};
use crate::text::TextStream;
use crate::{
    Adapter, CompiledGrammar, Constraint, Event, FinishReason, GenerationError, Next, TokenLogprob,
    TokenLogprobs, Usage,
};

/// One choice of a request and how far it has come.
pub(super) struct Running {
    pub(super) standing: Standing,
    choice: usize,
    /// How often it was set aside.
    pub(super) set_aside: u32,
    /// When it came or last had a turn of prefill, by `Order::tick`.
    pub(super) turn: u64,
    /// Whose blocks of the KV cache it may begin with.
    scope: Scope,
    arrived: Instant,
    /// When it got its latest token.
    latest_token: Option<Instant>,
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
    /// Prompt tokens that it did not have to compute, at its first opening.
    cached_prompt: Option<usize>,
    /// Generated tokens that no event has told of, and how likely they were.
    untold: usize,
    untold_logprobs: Vec<TokenLogprobs>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    /// Logits whose token cannot be chosen yet, because the constraint is still computing what is allowed.
    parked: Option<Vec<f32>>,
    logprobs: Option<usize>,
    stop_tokens: Vec<u32>,
    text: TextStream,
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
        let Job { id, choice, request, sampler, events, scope, arrived } = job;
        Self {
            standing: Standing::of(id, &request),
            choice,
            set_aside: 0,
            turn,
            scope,
            arrived,
            latest_token: None,
            events,
            prompt_tokens: request.prompt.len(),
            tokens: request.prompt.clone(),
            max_tokens: request.max_tokens,
            adapter: request.adapter.clone(),
            sequence: None,
            computed: 0,
            // The first choice tells of the prompt for all.
            told_prompt: if choice == 0 { 0 } else { request.prompt.len() },
            cached_prompt: None,
            untold: 0,
            untold_logprobs: Vec::new(),
            sampler,
            constraint: request.grammar.as_ref().map(CompiledGrammar::start),
            parked: None,
            logprobs: request.logprobs,
            stop_tokens: request.stop_tokens.clone(),
            text: TextStream::new(&request.stop),
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

    /// What planning has to know of it.
    pub(super) fn candidate(&self) -> Candidate {
        Candidate {
            standing: self.standing,
            decoding: self.decoding(),
            held: self.parked.is_some(),
            turn: self.turn,
        }
    }

    /// Tokens to compute before the next can be chosen.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Makes sure that it has a sequence.
    pub(super) fn open(&mut self, backend: &mut dyn Backend, counters: &Counters) {
        if self.sequence.is_none() {
            let (sequence, cached) = backend.open(&self.tokens, self.scope, self.adapter.as_ref());
            self.sequence = Some(sequence);
            self.computed = cached;
            self.cached_prompt.get_or_insert(cached.min(self.prompt_tokens));
            if self.set_aside == 0 {
                add(&counters.cached_prompt_tokens, cached as u64);
            }
        }
    }

    /// Notes that it has got a token.
    pub(super) fn note_token(&mut self, now: Instant, counters: &Counters) {
        match self.latest_token.replace(now) {
            None => counters.time_to_first_token.add(now.saturating_duration_since(self.arrived)),
            Some(before) => counters.inter_token.add(now.saturating_duration_since(before)),
        }
    }

    /// True while it should wait for `other`, the first choice of the same request, which is computing the prompt.
    pub(super) fn follows(&self, other: &Self) -> bool {
        let first = |running: &Self| running.standing.id - running.choice as u64;
        let leads = first(self) == first(other) && other.choice == 0 && self.choice > 0;
        leads && self.sequence.is_none() && other.computed < other.prompt_tokens
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
        logits: Option<Vec<f32>>,
        words: &dyn Vocabulary,
    ) -> Result<Step, GenerationError> {
        self.computed += count;
        let prefilled = self.computed.min(self.prompt_tokens);
        if prefilled > self.told_prompt {
            self.tell(Event::Prefilled { tokens: prefilled - self.told_prompt });
            self.told_prompt = prefilled;
        }
        self.parked = logits;
        self.unpark(words)
    }

    /// Chooses the next token if its logits are there and what is allowed is known.
    pub(super) fn unpark(&mut self, words: &dyn Vocabulary) -> Result<Step, GenerationError> {
        let Some(logits) = self.parked.take() else { return Ok(Step::Going) };
        // A head padded beyond the vocabulary has columns that stand for no token.
        let known = &logits[..logits.len().min(words.size())];
        let next = match self.constraint.as_mut().map(Constraint::poll) {
            None => self.sampler.next(known, None),
            Some(Poll::Ready(next)) => match next? {
                Next::Choose { mask, .. } => self.sampler.next(known, Some(mask)),
                Next::Complete => return Ok(self.stop()),
            },
            Some(Poll::Pending) => {
                self.parked = Some(logits);
                return Ok(Step::Going);
            }
        };
        let token = next.ok_or(GenerationError::NotFinite)?;
        self.take(token, known, words)
    }

    /// True while its next token cannot be chosen.
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Waits for what is allowed next, for a while.
    pub(super) fn wait(&mut self, patience: Duration) {
        if let Some(constraint) = &mut self.constraint {
            // What comes of it is asked for later.
            let _ = constraint.wait(patience);
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

    /// Goes on with the token that was chosen from `logits`.
    fn take(&mut self, token: u32, logits: &[f32], words: &dyn Vocabulary) -> Result<Step, GenerationError> {
        if words.ends(token) || self.stop_tokens.contains(&token) {
            return Ok(self.stop());
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.begin(&[token])?;
        }
        self.tokens.push(token);
        self.untold += 1;
        if let Some(top) = self.logprobs {
            self.untold_logprobs.extend(describe(logits, token, top, words));
        }
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

    /// The model ended the answer, or nothing can follow.
    fn stop(&mut self) -> Step {
        let rest = self.text.finish();
        self.finish(rest, FinishReason::Stop)
    }

    fn finish(&mut self, rest: String, reason: FinishReason) -> Step {
        if self.untold > 0 || !rest.is_empty() {
            self.tell_text(rest);
        }
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_prompt.unwrap_or_default(),
            completion_tokens: self.generated(),
        };
        Step::Done(Event::Finished { choice: self.choice, reason, usage })
    }

    fn tell_text(&mut self, text: String) {
        let tokens = std::mem::take(&mut self.untold);
        let logprobs = std::mem::take(&mut self.untold_logprobs);
        self.tell(Event::Token { choice: self.choice, text, tokens, logprobs });
    }
}

/// How likely `token` was, and the most likely others; `None` if no logit is finite.
fn describe(logits: &[f32], token: u32, top: usize, words: &dyn Vocabulary) -> Option<TokenLogprobs> {
    let distribution = Distribution::new(logits)?;
    let describe = |token| TokenLogprob {
        token,
        bytes: words.bytes(token).to_vec(),
        logprob: distribution.logprob(token),
    };
    let top = distribution.top(top).into_iter().map(describe).collect();
    Some(TokenLogprobs { chosen: describe(token), top })
}
