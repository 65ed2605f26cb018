//! Scheduling with a scripted model: the order of its steps is known, and the time that they take.

mod events;
mod order;
mod preemption;
mod rules;
mod time;

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::worker::Worker;
use super::{Clock, Health, Scheduler, SchedulerLimits, Vocabulary};
use crate::backend::{Backend, CacheFull, Chunk, KvUse, Outcome, Scope, SequenceId};
use crate::{
    Adapter, Event, FinishReason, GenerateRequest, Generation, GenerationError, PrefixSharing, Priority,
    Sampling, SubmitError, Usage,
};

/// Ids with a meaning; the others are followed by themselves.
const END: u32 = 90;
const PANIC: u32 = 91;
const ERROR: u32 = 92;
/// Waits for the test before it is computed, and is followed by 0.
const WAIT: u32 = 93;
/// Waits for the test each time, and is followed by itself.
const WAIT_ALWAYS: u32 = 94;
/// Panics outside of what the backend catches.
const PANIC_ALL: u32 = 95;
/// Followed by logits that are no numbers.
const NO_NUMBER: u32 = 97;
/// Computed before it is asked for, at the beginning of a prompt.
const CACHED: u32 = 96;
const TOKENS: usize = 100;

/// How the model and its scheduler are set up.
#[derive(Clone, Copy)]
struct Script {
    /// Tokens that fit into the cache, all sequences together.
    cache: usize,
    prefill_chunk: usize,
    inter_token_target: Option<Duration>,
    prefix_sharing: PrefixSharing,
    cuts_exactly: bool,
    /// What a step takes: by itself, per answer, per prompt token.
    cost: [Duration; 3],
}

impl Default for Script {
    fn default() -> Self {
        Self {
            cache: usize::MAX,
            prefill_chunk: 4,
            inter_token_target: None,
            prefix_sharing: PrefixSharing::All,
            cuts_exactly: true,
            cost: [Duration::ZERO; 3],
        }
    }
}

/// The chunks of each step, as (first token of the prompt, number of tokens).
type Steps = Arc<Mutex<Vec<Vec<(u32, usize)>>>>;

/// Repeats the last token for ever.
struct Scripted {
    script: Script,
    log: Steps,
    scopes: Arc<Mutex<Vec<Scope>>>,
    now: Arc<Mutex<Instant>>,
    gate: Mutex<Receiver<()>>,
    /// By sequence: the first token, and how many it has.
    sequences: HashMap<SequenceId, (u32, usize)>,
    opened: u64,
    /// Dropped with the worker's thread.
    _alive: Sender<()>,
}

impl Scripted {
    fn held(&self) -> usize {
        self.sequences.values().map(|(_, computed)| computed).sum()
    }

    fn forward(&mut self, chunk: &Chunk<'_>) -> Outcome {
        let Chunk { sequence, tokens, logits } = *chunk;
        let (first, computed) = self.sequences.get_mut(&sequence).expect("an open sequence");
        *computed += tokens.len();
        if tokens.contains(&WAIT) || tokens.contains(&WAIT_ALWAYS) {
            // A closed gate lets everything through.
            let _ = self.gate.lock().expect("one waits at a time").recv();
        }
        let mut log = self.log.lock().expect("nobody panics while logging");
        log.last_mut().expect("a step has begun").push((*first, tokens.len()));
        drop(log);
        let last = tokens[tokens.len() - 1];
        match last {
            PANIC => return Err(GenerationError::Panicked("scripted panic".to_owned())),
            ERROR => return Err(GenerationError::Backend("scripted error".to_owned())),
            PANIC_ALL => panic!("scripted panic of a whole step"),
            _ => {}
        }
        let mut likely = vec![if last == NO_NUMBER { f32::NAN } else { 0.0 }; TOKENS];
        if last != NO_NUMBER {
            likely[if last == WAIT { 0 } else { last as usize }] = 1.0;
        }
        Ok(logits.then_some(likely))
    }
}

impl Backend for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn context_length(&self) -> usize {
        1000
    }

    fn weight_bytes(&self) -> u64 {
        0
    }

    fn kv_bytes_per_token(&self) -> u64 {
        0
    }

    fn kv(&self) -> Option<KvUse> {
        let available = self.script.cache - self.held();
        Some(KvUse { block_tokens: 1, blocks: self.script.cache, available, cached: 0 })
    }

    fn cuts_exactly(&self) -> bool {
        self.script.cuts_exactly
    }

    fn open(&mut self, tokens: &[u32], scope: Scope, _adapter: Option<&Adapter>) -> (SequenceId, usize) {
        self.scopes.lock().expect("nobody panics while logging").push(scope);
        let id = SequenceId::numbered(self.opened);
        self.opened += 1;
        // What begins with CACHED is known from earlier, as far as it is CACHED.
        let cached = tokens[..tokens.len() - 1].iter().take_while(|token| **token == CACHED).count();
        self.sequences.insert(id, (tokens[0], cached));
        (id, cached)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence).expect("closed once");
    }

    fn step(&mut self, chunks: &[Chunk<'_>]) -> Result<Vec<Outcome>, CacheFull> {
        let more: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        if self.held() + more > self.script.cache {
            return Err(CacheFull);
        }
        self.log.lock().expect("nobody panics while logging").push(Vec::new());
        let answers = chunks.iter().filter(|chunk| self.sequences[&chunk.sequence].1 > 0);
        let answers = answers.filter(|chunk| chunk.tokens.len() == 1).count();
        let [step, answer, prompt_token] = self.script.cost;
        *self.now.lock().expect("nobody panics at a clock") +=
            step + answer * answers as u32 + prompt_token * (more - answers) as u32;
        Ok(chunks.iter().map(|chunk| self.forward(chunk)).collect())
    }
}

struct Letters;

impl Vocabulary for Letters {
    fn bytes(&self, _token: u32) -> &[u8] {
        b"x"
    }

    fn ends(&self, token: u32) -> bool {
        token == END
    }

    fn size(&self) -> usize {
        TOKENS
    }
}

/// A scheduler with the test's ends of its script.
struct Rig {
    scheduler: Scheduler,
    /// Until it runs on a thread of its own.
    worker: Option<Worker>,
    log: Steps,
    scopes: Arc<Mutex<Vec<Scope>>>,
    now: Arc<Mutex<Instant>>,
    gate: Sender<()>,
    ended: Receiver<()>,
}

fn rig(max_sequences: usize, queue: usize) -> Rig {
    rig_of(max_sequences, queue, Script::default())
}

/// One that works by itself.
fn rig_of(max_sequences: usize, queue: usize, script: Script) -> Rig {
    let mut rig = stepped(max_sequences, queue, script);
    let worker = rig.worker.take().expect("not started yet");
    std::thread::spawn(move || worker.run());
    rig
}

/// One that takes a step when it is told to.
fn stepped(max_sequences: usize, queue: usize, script: Script) -> Rig {
    let (log, scopes) = (Steps::default(), Arc::default());
    let now = Arc::new(Mutex::new(Instant::now()));
    let (gate, waits) = mpsc::channel();
    let (alive, ended) = mpsc::channel();
    let backend = Scripted {
        script,
        log: Arc::clone(&log),
        scopes: Arc::clone(&scopes),
        now: Arc::clone(&now),
        gate: Mutex::new(waits),
        sequences: HashMap::new(),
        opened: 0,
        _alive: alive,
    };
    let Script { prefill_chunk, inter_token_target, prefix_sharing, .. } = script;
    let limits = SchedulerLimits {
        max_sequences,
        queue,
        prefill_chunk,
        inter_token_target,
        context_length: 1000,
        prefix_sharing,
    };
    let clock = Arc::clone(&now);
    let clock: Clock = Arc::new(move || *clock.lock().expect("nobody panics at a clock"));
    let (scheduler, worker) = Scheduler::with_worker(Box::new(backend), Arc::new(Letters), limits, clock);
    Rig { scheduler, worker: Some(worker), log, scopes, now, gate, ended }
}

fn request(prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest { sampling: Sampling::GREEDY, ..GenerateRequest::new(prompt.to_vec(), max_tokens) }
}

impl Rig {
    fn try_submit(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        self.scheduler.submit(request)
    }

    fn submit(&self, prompt: &[u32], max_tokens: usize) -> Generation {
        self.try_submit(request(prompt, max_tokens)).expect("room")
    }

    /// A request that the worker has taken and now waits for the gate with: whatever is submitted next
    /// is in the queue together.
    fn hold(&self, max_tokens: usize) -> Generation {
        let mut holder = self.submit(&[0, 0, 0, 0, WAIT], max_tokens);
        assert_eq!(holder.blocking_next(), Some(Event::Prefilled { tokens: 4 }));
        holder
    }

    fn release(&self) {
        self.gate.send(()).expect("the model waits");
    }

    /// All chunks in order.
    fn order(&self) -> Vec<(u32, usize)> {
        self.steps().concat()
    }

    fn steps(&self) -> Vec<Vec<(u32, usize)>> {
        self.log.lock().expect("nobody panics while logging").clone()
    }

    /// The order in which prompts were begun, by their first token.
    fn begun(&self) -> Vec<u32> {
        let mut begun = Vec::new();
        for (first, _) in self.order() {
            if !begun.contains(&first) {
                begun.push(first);
            }
        }
        begun
    }

    /// Takes a step.
    fn turn(&mut self) {
        self.worker.as_mut().expect("stepped").turn().expect("the engine is open");
    }

    /// Takes steps until nobody waits or is computed; says how many.
    fn finish(&mut self) -> usize {
        for steps in 0..100_000 {
            let stats = self.scheduler.stats();
            if stats.queued + stats.active == 0 {
                return steps;
            }
            self.turn();
        }
        panic!("it never ends")
    }

    fn pass(&self, span: Duration) {
        *self.now.lock().expect("nobody panics at a clock") += span;
    }

    fn now(&self) -> Instant {
        *self.now.lock().expect("nobody panics at a clock")
    }
}

fn events(mut generation: Generation) -> Vec<Event> {
    std::iter::from_fn(|| generation.blocking_next()).collect()
}

fn last(generation: Generation) -> Event {
    events(generation).pop().expect("at least one event")
}

fn finished(prompt_tokens: usize, completion_tokens: usize, reason: FinishReason) -> Event {
    Event::Finished { choice: 0, reason, usage: Usage { prompt_tokens, cached_tokens: 0, completion_tokens } }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
