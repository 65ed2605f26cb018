//! Deadlines, the target between two tokens, and what is measured.

use super::*;
use crate::SubmitError;

#[test]
fn a_deadline_that_has_passed_is_refused() {
    let rig = stepped(1, 1, Script::default());
    let late = GenerateRequest { deadline: Some(rig.now()), ..request(&[1], 1) };
    assert_eq!(rig.try_submit(late).expect_err("too late"), SubmitError::Late);
    assert_eq!(rig.scheduler.stats().refused.late, 1);
}

#[test]
fn a_request_that_waits_past_its_deadline_is_told_and_never_computed() {
    let mut rig = stepped(1, 2, Script { cost: [millis(10); 3], ..Script::default() });
    let running = rig.submit(&[1], 3);
    rig.turn();
    let with = |first, deadline| {
        let request = GenerateRequest { deadline, ..request(&[first], 1) };
        rig.try_submit(request).expect("room")
    };
    let (late, patient) = (with(2, Some(rig.now() + millis(15))), with(3, None));
    rig.finish();
    assert_eq!(last(late), Event::Failed(GenerationError::ExpiredWaiting));
    assert_eq!(last(running), finished(1, 3, FinishReason::Length));
    assert_eq!(last(patient), finished(1, 1, FinishReason::Length));
    assert_eq!(rig.begun(), [1, 3]);
    let stats = rig.scheduler.stats();
    assert_eq!((stats.expired_waiting, stats.expired_running, stats.failed, stats.finished), (1, 0, 0, 2));
}

#[test]
fn an_answer_past_its_deadline_ends_between_steps_and_frees_its_place() {
    let mut rig = stepped(1, 1, Script { cost: [millis(10); 3], ..Script::default() });
    let deadline = Some(rig.now() + millis(45));
    let slow = GenerateRequest { deadline, ..request(&[1], 100) };
    let slow = rig.try_submit(slow).expect("room");
    let next = rig.submit(&[2], 1);
    rig.finish();
    let told = events(slow);
    let generated = told.iter().filter(|event| matches!(event, Event::Token { .. })).count();
    assert_eq!(told.last(), Some(&Event::Failed(GenerationError::Expired { generated })));
    assert_eq!(generated, 3, "20 ms each, and the third is under way when time is up");
    assert_eq!(last(next), finished(1, 1, FinishReason::Length));
    assert_eq!(rig.scheduler.stats().expired_running, 1);
}

#[test]
fn a_deadline_also_ends_who_is_set_aside() {
    let mut rig = stepped(2, 0, Script { cache: 20, cost: [millis(1); 3], ..Script::default() });
    let holder = rig.submit(&[1; 4], 15);
    let deadline = Some(rig.now() + millis(30));
    let low = GenerateRequest { deadline, priority: Priority::Low, ..request(&[2; 4], 12) };
    let low = rig.try_submit(low).expect("room");
    rig.finish();
    assert!(matches!(last(low), Event::Failed(GenerationError::Expired { .. })));
    assert_eq!(last(holder), finished(4, 15, FinishReason::Length));
    assert_eq!((rig.scheduler.stats().preempted, rig.scheduler.stats().expired_running), (1, 1));
}

#[test]
fn prompts_fill_a_step_up_to_the_target_while_answers_are_under_way() {
    let cost = [millis(5), millis(1), Duration::from_micros(200)];
    let script =
        Script { prefill_chunk: 256, inter_token_target: Some(millis(20)), cost, ..Script::default() };
    let mut rig = stepped(4, 0, script);
    let _first = rig.submit(&[1; 300], 300);
    rig.turn();
    assert_eq!(rig.order(), [(1, 256)], "nobody waits for a token: a large chunk");
    (0..4).for_each(|_| rig.turn());
    let _long = [rig.submit(&[2; 690], 1), rig.submit(&[3; 690], 1)];
    (0..12).for_each(|_| rig.turn());
    let steps = rig.steps();
    // 20 ms less 5 for the step and 1 for the answer are 70 tokens, 64 in whole blocks.
    let prompts = steps[5..].iter().map(|step| step.iter().skip(1).map(|chunk| chunk.1).sum::<usize>());
    let prompts: Vec<usize> = prompts.collect();
    assert!(prompts.iter().all(|tokens| (16..=80).contains(tokens)), "{prompts:?}");
    assert_eq!(prompts[8..], [64; 4], "{prompts:?}");
    let stats = rig.scheduler.stats();
    assert_eq!((stats.prefill_budget, stats.steps), (64, 17));
    assert!(
        stats.inter_token.buckets().any(|bucket| bucket == (Some(millis(20)), stats.inter_token.count()))
    );
}

#[test]
fn waits_are_measured_by_the_clock() {
    let mut rig = stepped(1, 1, Script { cost: [millis(10), millis(0), millis(0)], ..Script::default() });
    let _first = rig.submit(&[1; 6], 3);
    let _second = rig.submit(&[2], 1);
    rig.pass(millis(100));
    rig.finish();
    let stats = rig.scheduler.stats();
    // The first waits 100 ms, the second for two steps of the first's prompt and two of its answer more.
    assert_eq!((stats.queue_wait.count(), stats.queue_wait.sum), (2, millis(100 + 140)));
    assert_eq!((stats.time_to_first_token.count(), stats.time_to_first_token.sum), (2, millis(120 + 150)));
    assert_eq!((stats.inter_token.count(), stats.inter_token.sum), (2, millis(20)));
    assert_eq!((stats.queued, stats.active), (0, 0));
}

#[test]
fn refusals_are_counted_by_reason() {
    let rig = stepped(1, 0, Script::default());
    let _place = rig.submit(&[1], 1);
    let refused = |request| rig.try_submit(request).expect_err("refused");
    refused(request(&[1], 1));
    refused(request(&[], 1));
    refused(request(&[1; 999], 2));
    let refused = rig.scheduler.stats().refused;
    assert_eq!((refused.queue_full, refused.invalid, refused.too_long), (1, 1, 1));
    assert_eq!((refused.late, refused.unhealthy), (0, 0));
}
