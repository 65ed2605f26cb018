//! What a request's reader is told, and what becomes of the engine.

use super::*;
use crate::{FinishReason, GenerationError, SubmitError};

fn text(text: String, tokens: usize) -> Event {
    Event::Token { choice: 0, text, tokens, logprobs: Vec::new() }
}

#[test]
fn events_tell_of_every_token_and_the_end_once() {
    let rig = rig(1, 0);
    let token = |tokens| text("x".repeat(tokens), tokens);
    let prefilled = |tokens| Event::Prefilled { tokens };
    assert_eq!(
        events(rig.submit(&[1; 6], 2)),
        [prefilled(4), prefilled(2), token(1), token(1), finished(6, 2, FinishReason::Length)]
    );
    assert_eq!(events(rig.submit(&[END], 5)), [prefilled(1), finished(1, 0, FinishReason::Stop)]);
    let stops = GenerateRequest { stop: vec!["xxx".to_owned()], ..request(&[1], 9) };
    assert_eq!(
        events(rig.try_submit(stops).expect("room")),
        [prefilled(1), text(String::new(), 3), finished(1, 3, FinishReason::Stop)]
    );
    let stats = rig.scheduler.stats();
    assert_eq!((stats.prompt_tokens, stats.generated_tokens, stats.finished), (8, 5, 3));
}

#[test]
fn the_queue_is_bounded_and_a_reader_that_leaves_makes_room_at_once() {
    let rig = rig(1, 1);
    let running = rig.hold(1);
    let waiting = rig.submit(&[1], 1);
    let full = rig.try_submit(request(&[2], 1)).expect_err("one runs, one waits");
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
fn answers_that_are_no_numbers_say_nothing_about_the_engine() {
    let rig = rig(1, 4);
    for _ in 0..5 {
        assert_eq!(last(rig.submit(&[NO_NUMBER], 2)), Event::Failed(GenerationError::NotFinite));
    }
    assert_eq!(rig.scheduler.health(), Health::Ready);
    assert_eq!(last(rig.submit(&[3], 2)), finished(1, 2, FinishReason::Length));
}

#[test]
fn a_step_with_many_requests_fails_once() {
    let rig = rig(5, 0);
    let holder = rig.hold(20);
    let others = [1, 2, 3].map(|first| rig.submit(&[first, first], 20));
    let panics = rig.submit(&[4, PANIC_ALL], 20);
    rig.release();
    assert!(matches!(last(panics), Event::Failed(GenerationError::Panicked(_))));
    // Those who were in the same step end with it, more of them than steps may fail.
    others.into_iter().chain([holder]).for_each(|generation| drop(last(generation)));
    assert_eq!(last(rig.submit(&[3], 2)), finished(1, 2, FinishReason::Length), "it goes on");
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
    let rig = rig_of(2, 0, Script { cache: 20, ..Script::default() });
    let holder = rig.hold(12);
    let low = GenerateRequest { priority: Priority::Low, ..request(&[1; 4], 12) };
    let low = rig.try_submit(low).expect("room");
    rig.release();
    assert_eq!(last(holder), finished(5, 12, FinishReason::Length));
    let told = events(low);
    assert_eq!(told.last(), Some(&finished(4, 12, FinishReason::Length)));
    let (mut prefilled, mut generated) = (0, 0);
    for event in &told {
        match event {
            Event::Prefilled { tokens } => prefilled += tokens,
            Event::Token { tokens, .. } => generated += tokens,
            _ => {}
        }
    }
    assert_eq!((prefilled, generated), (4, 12), "nothing is told or counted twice");
    assert!(rig.scheduler.stats().preempted >= 1);
}

#[test]
fn a_request_that_never_fits_the_cache_fails_alone() {
    let rig = rig_of(2, 0, Script { cache: 12, ..Script::default() });
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
            text("x".to_owned(), 1),
            Event::Finished {
                choice: 0,
                reason: FinishReason::Length,
                usage: Usage { prompt_tokens: 6, cached_tokens: 5, completion_tokens: 1 },
            }
        ]
    );
    assert_eq!(rig.order(), [(CACHED, 1)]);
    let stats = rig.scheduler.stats();
    assert_eq!((stats.prompt_tokens, stats.cached_prompt_tokens), (1, 5));
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
    let refused = rig.try_submit(request(&[1], 1)).expect_err("out of service");
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
        match rig.try_submit(request).expect_err("out of range") {
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
    let error = rig.try_submit(request(&[1; 600], usize::MAX)).expect_err("too long");
    assert!(matches!(error, SubmitError::PromptTooLong { prompt_tokens: 600, context_length: 1000, .. }));
}
