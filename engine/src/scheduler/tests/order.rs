//! Whose turn it is, step by step.

use std::collections::HashSet;

use super::*;
use crate::{FinishReason, PrefixSharing};

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
    let place = |first: u32, nth: usize| {
        let mut places = (0..order.len()).filter(|place| order[*place].0 == first);
        places.nth(nth).unwrap_or_else(|| panic!("no chunk {nth} of {first} in {order:?}"))
    };
    let (answer, first_long, second_long, short) = (1, 2, 3, 4);
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
        rig.try_submit(request).expect("room")
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

fn of_tenant(tenant: u64, first: u32, length: usize, max_tokens: usize) -> GenerateRequest {
    GenerateRequest { tenant: Some(tenant), ..request(&vec![first; length], max_tokens) }
}

#[test]
fn a_tenants_many_long_prompts_do_not_starve_anothers_short_one() {
    let mut rig = stepped(4, 200, Script { prefill_chunk: 16, ..Script::default() });
    let submit = |rig: &Rig, request| rig.try_submit(request).expect("room");
    let _greedy: Vec<_> = (0..50).map(|number| submit(&rig, of_tenant(1, 1, 400, 20 + 5 * number))).collect();
    (0..10).for_each(|_| rig.turn());
    let _short = submit(&rig, of_tenant(2, 2, 3, 1));
    assert_eq!(rig.scheduler.stats().queued, 47);
    let before = rig.scheduler.stats().finished;
    while !rig.begun().contains(&2) {
        rig.turn();
    }
    let stats = rig.scheduler.stats();
    assert!(stats.queued >= 43, "it is begun before nearly all that came before it: {stats:?}");
    assert!(stats.finished <= before + 3, "it gets one of the first places that are free: {stats:?}");
    let length = rig.steps().len();
    assert!(rig.steps()[length - 1].contains(&(2, 3)), "and is read whole in one step");
}

#[test]
fn places_go_round_between_tenants_whatever_each_has_waiting() {
    let mut rig = stepped(1, 100, Script { prefill_chunk: 64, ..Script::default() });
    let mut waiting = Vec::new();
    for number in 0..6 {
        waiting.push(rig.try_submit(of_tenant(1, 10 + number, 8, 1)).expect("room"));
    }
    for number in 0..3 {
        waiting.push(rig.try_submit(of_tenant(2, 20 + number, 8, 1)).expect("room"));
    }
    rig.finish();
    // The eighth place would go to the oldest in any case.
    assert_eq!(rig.begun(), [10, 20, 11, 21, 12, 22, 13, 14, 15]);
}

#[test]
fn a_prompt_of_another_tenant_is_read_between_the_chunks_of_a_long_one() {
    let mut rig = stepped(3, 0, Script { prefill_chunk: 10, ..Script::default() });
    let submit = |rig: &Rig, request| rig.try_submit(request).expect("room");
    let _long = [submit(&rig, of_tenant(1, 1, 100, 1)), submit(&rig, of_tenant(1, 2, 100, 1))];
    rig.turn();
    let _other = submit(&rig, of_tenant(2, 3, 25, 1));
    (0..8).for_each(|_| rig.turn());
    // Who comes begins level with the others; then tenants take turns, and so do the prompts of the first.
    let expected = [(1, 10), (2, 10), (3, 10), (1, 10), (3, 10), (2, 10), (3, 5), (1, 5), (2, 10)];
    assert_eq!(rig.order()[..9], expected);
}

#[test]
fn low_priority_gets_one_place_in_eight() {
    let mut rig = stepped(1, 100, Script::default());
    let with = |rig: &Rig, first, priority| {
        let request = GenerateRequest { priority, ..request(&[first], 1) };
        rig.try_submit(request).expect("room")
    };
    let mut waiting = vec![with(&rig, 50, Priority::Low)];
    for round in 0..30 {
        // More high priority comes than there are places for.
        waiting.push(with(&rig, round, Priority::High));
        waiting.push(with(&rig, 60, Priority::High));
        rig.turn();
    }
    assert_eq!(rig.order().iter().position(|(first, _)| *first == 50), Some(7));
}

#[test]
fn the_earliest_deadline_goes_first_among_equals() {
    let mut rig = stepped(1, 10, Script::default());
    let (soon, later) = (Some(rig.now() + millis(10)), Some(rig.now() + millis(20)));
    let with = |first, deadline, priority| {
        let request = GenerateRequest { deadline, priority, ..request(&[first], 1) };
        rig.try_submit(request).expect("room")
    };
    let _waiting = [
        with(1, None, Priority::Normal),
        with(2, later, Priority::Normal),
        with(3, soon, Priority::Normal),
        with(4, None, Priority::High),
    ];
    rig.finish();
    assert_eq!(rig.begun(), [4, 3, 2, 1]);
}

#[test]
fn a_backend_that_rounds_by_chunks_gets_whole_ones_at_fixed_places() {
    let script = Script {
        prefill_chunk: 8,
        cuts_exactly: false,
        inter_token_target: Some(millis(2)),
        cost: [millis(1); 3],
        ..Script::default()
    };
    let mut rig = stepped(4, 0, script);
    let _answers = [rig.submit(&[1; 3], 20), rig.submit(&[2; 20], 20), rig.submit(&[3; 21], 20)];
    rig.finish();
    for (first, expected) in [(1, vec![3]), (2, vec![8, 8, 4]), (3, vec![8, 8, 5])] {
        let order = rig.order();
        let chunks = order.iter().filter(|chunk| chunk.0 == first).map(|chunk| chunk.1);
        assert_eq!(chunks.take(expected.len()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn who_may_share_a_beginning_is_the_operators_setting() {
    let scopes = |prefix_sharing| {
        let mut rig = stepped(4, 0, Script { prefix_sharing, ..Script::default() });
        let tenants = [Some(1), Some(1), Some(2), None];
        let requests = tenants.map(|tenant| GenerateRequest { tenant, ..request(&[1], 1) });
        let _answers = requests.map(|request| rig.try_submit(request).expect("room"));
        rig.finish();
        let scopes = rig.scopes.lock().expect("nobody panics while logging").clone();
        let private = scopes.iter().filter(|scope| **scope == Scope::Private).count();
        (scopes.into_iter().collect::<HashSet<_>>().len(), private)
    };
    assert_eq!(scopes(PrefixSharing::All), (1, 0));
    assert_eq!(scopes(PrefixSharing::Tenant), (3, 0));
    assert_eq!(scopes(PrefixSharing::Off), (1, 4));
}

#[test]
fn one_tenant_cannot_fill_the_queue() {
    let rig = stepped(2, 70, Script::default());
    let submit = |tenant| rig.try_submit(of_tenant(tenant, 1, 4, 1));
    let greedy: Vec<_> = std::iter::from_fn(|| submit(1).ok()).collect();
    assert_eq!(greedy.len(), 64, "eight ninths of 72");
    let others: Vec<_> = (2..10).map(|tenant| submit(tenant).expect("the rest is for others")).collect();
    assert!(submit(2).is_err(), "that was the last place");
    drop(others);
    drop(greedy);
    let unnamed = std::iter::from_fn(|| rig.try_submit(request(&[1], 1)).ok()).collect::<Vec<_>>();
    assert_eq!(unnamed.len(), 72, "where nobody is told apart, nobody is held back");
}
