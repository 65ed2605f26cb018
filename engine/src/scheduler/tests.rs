//! Scheduling with a scripted model: the order of its steps is known.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use super::{Health, Scheduler, SchedulerLimits, Vocabulary};
use crate::backend::{AdapterBase, Backend, CacheFull, Chunk, Outcome, SequenceId};
use crate::{
    Adapter, Event, FinishReason, GenerateRequest, Generation, GenerationError, Priority, Sampling,
    SubmitError, Usage,
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
/// Computed before it is asked for, at the beginning of a prompt.
const CACHED: u32 = 96;
const TOKENS: usize = 100;

/// Repeats the last token for ever, and logs each chunk as (first token of the prompt, number of tokens).
struct Scripted {
    log: Arc<Mutex<Vec<(u32, usize)>>>,
    gate: Mutex<Receiver<()>>,
    /// By sequence: the first token, and how many it has.
    sequences: HashMap<SequenceId, (u32, usize)>,
    opened: u64,
    /// Tokens that fit into the cache, all sequences together.
    cache: usize,
    /// Dropped with the worker's thread.
    _alive: Sender<()>,
}

impl Scripted {
    fn forward(&mut self, chunk: &Chunk<'_>) -> Outcome {
        let Chunk { sequence, tokens, logits } = *chunk;
        let (first, computed) = self.sequences.get_mut(&sequence).expect("an open sequence");
        *computed += tokens.len();
        if tokens.contains(&WAIT) || tokens.contains(&WAIT_ALWAYS) {
            // A closed gate lets everything through.
            let _ = self.gate.lock().expect("one waits at a time").recv();
        }
        self.log.lock().expect("nobody panics while logging").push((*first, tokens.len()));
        let last = tokens[tokens.len() - 1];
        match last {
            PANIC => return Err(GenerationError::Panicked("scripted panic".to_owned())),
            ERROR => return Err(GenerationError::Backend("scripted error".to_owned())),
            PANIC_ALL => panic!("scripted panic of a whole step"),
            _ => {}
        }
        let mut likely = vec![0.0; TOKENS];
        likely[if last == WAIT { 0 } else { last as usize }] = 1.0;
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

    fn kv_bytes_per_token(&self) -> u64 {
        0
    }

    fn adapter_base(&self) -> Option<AdapterBase> {
        None
    }

    fn open(&mut self, tokens: &[u32], _adapter: Option<&Adapter>) -> (SequenceId, usize) {
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
        let held: usize = self.sequences.values().map(|(_, computed)| computed).sum();
        let more: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        if held + more > self.cache {
            return Err(CacheFull);
        }
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
    log: Arc<Mutex<Vec<(u32, usize)>>>,
    gate: Sender<()>,
    ended: Receiver<()>,
}

fn rig(max_sequences: usize, queue: usize) -> Rig {
    rig_with_cache(max_sequences, queue, usize::MAX)
}

fn rig_with_cache(max_sequences: usize, queue: usize, cache: usize) -> Rig {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (gate, waits) = mpsc::channel();
    let (alive, ended) = mpsc::channel();
    let backend = Scripted {
        log: Arc::clone(&log),
        gate: Mutex::new(waits),
        sequences: HashMap::new(),
        opened: 0,
        cache,
        _alive: alive,
    };
    let limits = SchedulerLimits { max_sequences, queue, prefill_chunk: 4, context_length: 1000 };
    let scheduler = Scheduler::start(Box::new(backend), Arc::new(Letters), limits).expect("a thread starts");
    Rig { scheduler, log, gate, ended }
}

fn request(prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest { sampling: Sampling::GREEDY, ..GenerateRequest::new(prompt.to_vec(), max_tokens) }
}

impl Rig {
    fn submit(&self, prompt: &[u32], max_tokens: usize) -> Generation {
        self.scheduler.submit(request(prompt, max_tokens)).expect("room")
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

    fn order(&self) -> Vec<(u32, usize)> {
        self.log.lock().expect("nobody panics while logging").clone()
    }
}

fn events(mut generation: Generation) -> Vec<Event> {
    std::iter::from_fn(|| generation.blocking_next()).collect()
}

fn last(generation: Generation) -> Event {
    events(generation).pop().expect("at least one event")
}

fn finished(prompt_tokens: usize, completion_tokens: usize, reason: FinishReason) -> Event {
    Event::Finished { reason, usage: Usage { prompt_tokens, completion_tokens } }
}

#[test]
fn events_tell_of_every_token_and_the_end_once() {
    let rig = rig(1, 0);
    let token = |tokens| Event::Token { text: "x".repeat(tokens), tokens };
    let prefilled = |tokens| Event::Prefilled { tokens };
    assert_eq!(
        events(rig.submit(&[1; 6], 2)),
        [prefilled(4), prefilled(2), token(1), token(1), finished(6, 2, FinishReason::Length)]
    );
    assert_eq!(events(rig.submit(&[END], 5)), [prefilled(1), finished(1, 0, FinishReason::Stop)]);
    let stops = GenerateRequest { stop: vec!["xxx".to_owned()], ..request(&[1], 9) };
    assert_eq!(
        events(rig.scheduler.submit(stops).expect("room")),
        [prefilled(1), Event::Token { text: String::new(), tokens: 3 }, finished(1, 3, FinishReason::Stop)]
    );
    let stats = rig.scheduler.stats();
    assert_eq!((stats.prompt_tokens, stats.generated_tokens, stats.finished), (8, 5, 3));
}

#[test]
fn long_prompts_do_not_hold_up_short_ones_nor_answers() {
    let rig = rig(5, 0);
    let holder = rig.hold(1);
    let answering = rig.submit(&[1], 6);
    let long = [rig.submit(&[2; 40], 1), rig.submit(&[3; 40], 1)];
    let short = rig.submit(&[4; 3], 1);
    rig.release();
    assert_eq!(last(holder), finished(5, 1, FinishReason::Length));
    assert_eq!(last(short), finished(3, 1, FinishReason::Length));
    assert_eq!(last(answering), finished(1, 6, FinishReason::Length));
    assert_eq!(
        long.map(last),
        [finished(40, 1, FinishReason::Length), finished(40, 1, FinishReason::Length)]
    );
    let order = rig.order();
    let place = |step: (u32, usize), nth: usize| {
        let mut places = (0..order.len()).filter(|place| order[*place] == step);
        places.nth(nth).unwrap_or_else(|| panic!("no {step:?} number {nth} in {order:?}"))
    };
    let (first_long, second_long, short, answer) = ((2, 4), (3, 4), (4, 3), (1, 1));
    // The long prompts take turns; the short one comes after a chunk of each.
    assert!(place(first_long, 0) < place(second_long, 0), "{order:?}");
    assert!(place(second_long, 0) < place(first_long, 1), "{order:?}");
    assert!(place(short, 0) < place(first_long, 1), "{order:?}");
    // The answer gets a step before every chunk.
    assert!((1..5).all(|nth| place(answer, nth) < place(first_long, nth)), "{order:?}");
}

#[test]
fn the_queue_goes_by_priority_then_arrival() {
    let rig = rig(1, 4);
    let holder = rig.hold(1);
    let with = |first: u32, priority| {
        let request = GenerateRequest { priority, ..request(&[first], 1) };
        rig.scheduler.submit(request).expect("room")
    };
    let waiting = [
        with(1, Priority::Low),
        with(2, Priority::Normal),
        with(3, Priority::High),
        with(4, Priority::Normal),
    ];
    rig.release();
    assert_eq!(waiting.map(last), [(); 4].map(|()| finished(1, 1, FinishReason::Length)));
    drop(holder);
    let firsts: Vec<u32> = rig.order().iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [0, 0, 3, 2, 4, 1]);
}

#[test]
fn the_queue_is_bounded_and_a_reader_that_leaves_makes_room_at_once() {
    let rig = rig(1, 1);
    let running = rig.hold(1);
    let waiting = rig.submit(&[1], 1);
    let full = rig.scheduler.submit(request(&[2], 1)).expect_err("one runs, one waits");
    assert_eq!(full, SubmitError::QueueFull { limit: 1 });
    assert!(full.is_retryable());
    drop(waiting);
    let waiting = rig.submit(&[3], 1);
    drop(running);
    let another = rig.submit(&[4], 1);
    rig.release();
    assert_eq!(last(waiting), finished(1, 1, FinishReason::Length));
    assert_eq!(last(another), finished(1, 1, FinishReason::Length));
    assert!(!rig.order().iter().any(|(first, _)| *first == 1), "who left the queue is not computed");
}

#[test]
fn a_running_request_that_nobody_reads_is_stopped_between_steps() {
    let rig = rig(1, 1);
    let mut running = rig.submit(&[WAIT_ALWAYS], 900);
    let next = rig.submit(&[3], 1);
    rig.release();
    while !matches!(running.blocking_next(), Some(Event::Token { .. })) {}
    drop(running);
    rig.release();
    assert_eq!(last(next), finished(1, 1, FinishReason::Length));
    let steps = rig.order().iter().filter(|(first, _)| *first == WAIT_ALWAYS).count();
    assert!(steps <= 2, "{steps} steps for a reader that left after the first");
}

#[test]
fn a_panic_or_an_error_ends_its_own_request_only() {
    let rig = rig(3, 0);
    let holder = rig.hold(20);
    let panics = rig.submit(&[1, PANIC], 20);
    let errs = rig.submit(&[2, ERROR], 20);
    rig.release();
    assert_eq!(last(panics), Event::Failed(GenerationError::Panicked("scripted panic".to_owned())));
    assert_eq!(last(errs), Event::Failed(GenerationError::Backend("scripted error".to_owned())));
    assert_eq!(last(holder), finished(5, 20, FinishReason::Length));
    assert_eq!(rig.scheduler.health(), Health::Ready, "a step succeeded since");
    assert_eq!((rig.scheduler.stats().panics, rig.scheduler.stats().failed), (1, 2));
}

#[test]
fn a_panic_of_a_whole_step_ends_what_was_in_it() {
    let rig = rig(3, 0);
    let holder = rig.hold(20);
    let panics = rig.submit(&[1, PANIC_ALL], 20);
    rig.release();
    let panicked = Event::Failed(GenerationError::Panicked("scripted panic of a whole step".to_owned()));
    assert_eq!([last(panics), last(holder)], [panicked.clone(), panicked]);
    assert_eq!(last(rig.submit(&[3], 2)), finished(1, 2, FinishReason::Length));
    assert_eq!(rig.scheduler.health(), Health::Ready);
}

#[test]
fn a_full_cache_sets_the_least_urgent_aside_and_it_still_ends_whole() {
    // Both prompts fit, both answers do not.
    let rig = rig_with_cache(2, 0, 20);
    let holder = rig.hold(12);
    let low = GenerateRequest { priority: Priority::Low, ..request(&[1; 4], 12) };
    let low = rig.scheduler.submit(low).expect("room");
    rig.release();
    assert_eq!(last(holder), finished(5, 12, FinishReason::Length));
    let told = events(low);
    assert_eq!(told.last(), Some(&finished(4, 12, FinishReason::Length)));
    let prefilled = told.iter().filter(|event| matches!(event, Event::Prefilled { .. })).count();
    let tokens: usize =
        told.iter().map(|event| if let Event::Token { tokens, .. } = event { *tokens } else { 0 }).sum();
    assert_eq!((prefilled, tokens), (1, 12), "nothing is told or counted twice");
    assert!(rig.scheduler.stats().preempted >= 1);
}

#[test]
fn a_request_that_never_fits_the_cache_fails_alone() {
    let rig = rig_with_cache(2, 0, 12);
    let never = rig.submit(&[1; 8], 12);
    let Event::Failed(GenerationError::Backend(reason)) = last(never) else { panic!("it cannot fit") };
    assert!(reason.contains("too small"), "{reason}");
    assert_eq!(last(rig.submit(&[2; 4], 2)), finished(4, 2, FinishReason::Length));
}

#[test]
fn what_is_cached_is_not_computed_again() {
    let rig = rig(1, 0);
    let prompt = [CACHED, CACHED, CACHED, CACHED, CACHED, 1];
    assert_eq!(
        events(rig.submit(&prompt, 1)),
        [
            Event::Prefilled { tokens: 6 },
            Event::Token { text: "x".to_owned(), tokens: 1 },
            finished(6, 1, FinishReason::Length)
        ]
    );
    assert_eq!(rig.order(), [(CACHED, 1)]);
    assert_eq!(rig.scheduler.stats().prompt_tokens, 1);
}

#[test]
fn an_engine_that_only_fails_goes_out_of_service() {
    let rig = rig(1, 4);
    let holder = rig.hold(1);
    let failing = [1, 2, 3].map(|first| rig.submit(&[first, first, PANIC], 1));
    let unlucky = rig.submit(&[5], 1);
    rig.release();
    assert_eq!(last(holder), finished(5, 1, FinishReason::Length));
    let ends = failing.map(last);
    assert!(ends.iter().all(|event| matches!(event, Event::Failed(_))), "{ends:?}");
    assert_eq!(last(unlucky), Event::Failed(GenerationError::Stopped));
    rig.ended.recv().expect_err("the thread ends");
    assert!(matches!(rig.scheduler.health(), Health::Failed { .. }));
    let refused = rig.scheduler.submit(request(&[1], 1)).expect_err("out of service");
    assert!(refused.to_string().contains("scripted panic"), "{refused}");
}

#[test]
fn a_closed_engine_finishes_what_is_read_and_ends_its_thread() {
    let rig = rig(1, 1);
    let running = rig.hold(3);
    let waiting = rig.submit(&[1], 3);
    rig.release();
    drop(rig.scheduler);
    assert_eq!(last(running), finished(5, 3, FinishReason::Length));
    assert_eq!(last(waiting), finished(1, 3, FinishReason::Length));
    rig.ended.recv().expect_err("the thread ends");
}

#[test]
fn requests_out_of_range_are_refused_by_field() {
    let rig = rig(1, 0);
    let refuse = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = request(&[1], 1);
        change(&mut request);
        match rig.scheduler.submit(request).expect_err("out of range") {
            SubmitError::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refuse(&|request| request.prompt.clear()), "prompt");
    assert_eq!(refuse(&|request| request.prompt.push(TOKENS as u32)), "prompt");
    assert_eq!(refuse(&|request| request.max_tokens = 0), "max_tokens");
    assert_eq!(refuse(&|request| request.sampling.temperature = 2.1), "temperature");
    assert_eq!(refuse(&|request| request.sampling.temperature = f32::NAN), "temperature");
    assert_eq!(refuse(&|request| request.sampling.top_p = 0.0), "top_p");
    assert_eq!(refuse(&|request| request.stop = vec![String::new()]), "stop");
    assert_eq!(refuse(&|request| request.stop = vec!["x".to_owned(); 17]), "stop");
    let error = rig.scheduler.submit(request(&[1; 600], usize::MAX)).expect_err("too long");
    assert!(matches!(error, SubmitError::PromptTooLong { prompt_tokens: 600, context_length: 1000, .. }));
}
