//! A full cache: somebody is set aside, and everybody is finished.

use proptest::prelude::*;

use super::*;

/// Reads all that was told; generated tokens in all.
fn told(generation: Generation) -> usize {
    let tokens = |event: &Event| if let Event::Token { tokens, .. } = event { *tokens } else { 0 };
    events(generation).iter().map(tokens).sum()
}

#[test]
fn two_that_do_not_fit_together_end_one_after_the_other() {
    let mut rig = stepped(2, 0, Script { cache: 30, ..Script::default() });
    let answers = [rig.submit(&[1; 8], 20), rig.submit(&[2; 8], 20)];
    let steps = rig.finish();
    assert_eq!(answers.map(told), [20, 20]);
    // The first to arrive is never set aside, so the second is once, or twice if it comes back early.
    assert!(rig.scheduler.stats().preempted <= 2, "{} times", rig.scheduler.stats().preempted);
    assert!(steps < 80, "{steps} steps");
}

#[test]
fn while_somebody_is_set_aside_only_the_more_urgent_come_in() {
    let mut rig = stepped(3, 5, Script { cache: 24, prefill_chunk: 8, ..Script::default() });
    let _running = [rig.submit(&[1; 8], 12), rig.submit(&[2; 8], 12)];
    while rig.scheduler.stats().preempted == 0 {
        rig.turn();
    }
    let _equal = rig.submit(&[3; 2], 1);
    (0..3).for_each(|_| rig.turn());
    assert_eq!(rig.scheduler.stats().queued, 1, "what it would take is what the one set aside waits for");
    rig.finish();
    assert_eq!(rig.scheduler.stats().finished, 3);
}

#[test]
fn low_priority_is_not_set_aside_for_ever() {
    let mut rig = stepped(2, 50, Script { cache: 40, prefill_chunk: 16, ..Script::default() });
    let low = GenerateRequest { priority: Priority::Low, ..request(&[1; 10], 20) };
    let mut low = rig.try_submit(low).expect("room");
    let mut high = Vec::new();
    let mut end = None;
    for _ in 0..500 {
        // A stream of urgent requests that each take the whole cache, beside the one of low priority.
        while rig.scheduler.stats().queued < 2 {
            let urgent = GenerateRequest { priority: Priority::High, ..request(&[2; 20], 10) };
            high.push(rig.try_submit(urgent).expect("room"));
        }
        rig.turn();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(event)) = low.poll_event(&mut context) {
            end = Some(event);
        }
    }
    assert_eq!(end, Some(finished(10, 20, FinishReason::Length)));
    assert!((1..=3).contains(&rig.scheduler.stats().preempted) || rig.scheduler.stats().finished > 3);
}

#[derive(Debug, Clone)]
struct Asked {
    tenant: Option<u64>,
    priority: Priority,
    prompt: usize,
    max_tokens: usize,
    /// Steps taken before it comes.
    after: usize,
}

fn asked() -> impl Strategy<Value = Asked> {
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    (prop::option::of(0..3_u64), priority, 1..30_usize, 1..20_usize, 0..6_usize).prop_map(
        |(tenant, priority, prompt, max_tokens, after)| Asked { tenant, priority, prompt, max_tokens, after },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, in whatever little memory, all are finished whole, in a bounded number of steps.
    #[test]
    fn everybody_is_finished(
        requests in prop::collection::vec(asked(), 1..20),
        places in 1..6_usize,
        spare in 0..60_usize,
        chunk in 1..40_usize,
    ) {
        let longest = requests.iter().map(|asked| asked.prompt + asked.max_tokens).max().unwrap_or(0);
        let script = Script { cache: longest + spare, prefill_chunk: chunk, ..Script::default() };
        let mut rig = stepped(places, 100, script);
        let mut answers = Vec::new();
        for Asked { tenant, priority, prompt, max_tokens, after } in &requests {
            for _ in 0..*after {
                if rig.scheduler.stats().queued + rig.scheduler.stats().active > 0 {
                    rig.turn();
                }
            }
            let request = GenerateRequest {
                tenant: *tenant, priority: *priority, ..request(&vec![1; *prompt], *max_tokens)
            };
            answers.push(rig.try_submit(request).expect("room"));
        }
        let steps = rig.finish();
        for (answer, asked) in answers.into_iter().zip(&requests) {
            prop_assert_eq!(told(answer), asked.max_tokens);
        }
        // Each may be set aside some times; nobody more often than there are others and classes.
        let preempted = rig.scheduler.stats().preempted as usize;
        prop_assert!(preempted <= requests.len() * (requests.len() + 2), "{preempted} times set aside");
        prop_assert!(steps <= requests.len() * 70 * (requests.len() + 3), "{steps} steps");
        let left = rig.worker.as_ref().expect("stepped").tenants();
        let stats = rig.scheduler.stats();
        prop_assert_eq!((stats.kv_blocks_total, stats.kv_blocks_used, left), (script.cache, 0, 0));
    }
}
