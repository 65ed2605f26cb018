//! The rules by themselves.

use proptest::prelude::*;

use super::super::budget::{Costs, LEAST};
use super::super::fair::{Shares, TURNS_PER_OLDEST};
use super::super::plan::{Candidate, Order, Room};
use super::super::standing::{Standing, Tenant};
use super::super::waiting::Waiting;
use super::*;

const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

fn standing(id: u64, tenant: Tenant, priority: Priority) -> Standing {
    Standing { id, tenant, priority, deadline: None }
}

#[test]
fn a_tenant_that_comes_back_has_saved_nothing_up() {
    let mut shares = Shares::default();
    shares.enter(Some(1));
    shares.charge(Some(1), Priority::Normal, 1_000);
    shares.enter(Some(2));
    assert_eq!(shares.served(Some(2)), shares.served(Some(1)), "it begins where the least served one is");
    shares.charge(Some(2), Priority::High, 10);
    shares.leave(Some(1));
    shares.leave(Some(2));
    assert_eq!((shares.tenants(), shares.served(Some(1))), (0, 0), "nothing is kept of those who are gone");
}

#[test]
fn competing_tenants_get_places_by_the_weight_of_their_priority() {
    let mut waiting = Waiting::default();
    let mut id = 0;
    let mut push = |waiting: &mut Waiting<usize>, class: usize| {
        id += 1;
        waiting.push(standing(id, Some(class as u64), PRIORITIES[class]), 10, class);
    };
    (0..3).for_each(|class| (0..3).for_each(|_| push(&mut waiting, class)));
    let mut places = [0; 3];
    for _ in 0..1_400 {
        let class = waiting.next(None).expect("there are always some");
        places[class] += 1;
        push(&mut waiting, class);
        waiting.leave(Some(class as u64));
    }
    // 1 : 2 : 4, blurred by the places that go to the oldest.
    assert!((180..=260).contains(&places[0]), "{places:?}");
    assert!((370..=430).contains(&places[1]), "{places:?}");
    assert!((700..=820).contains(&places[2]), "{places:?}");
}

#[test]
fn each_time_set_aside_strengthens_the_claim_to_memory_up_to_a_limit() {
    let low = standing(1, None, Priority::Low);
    let newcomer = standing(2, None, Priority::High);
    assert!(low.hold(0) < newcomer.hold(0));
    assert!(low.hold(1) < newcomer.hold(0));
    assert!(low.hold(2) > newcomer.hold(0), "as urgent, and first to arrive");
    assert_eq!(low.hold(2), low.hold(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// However many more urgent ones keep coming, `older` requests before it let one wait for at most eight places each.
    #[test]
    fn nobody_waits_for_ever(
        older in prop::collection::vec((prop::option::of(0..4_u64), 0..3_usize), 0..12),
        newcomers in prop::collection::vec((prop::option::of(0..400_u64), 0..3_usize, 1..500_usize), 300),
    ) {
        let mut waiting = Waiting::default();
        let mut ids = 0..;
        let mut push = |waiting: &mut Waiting<u64>, tenant, class: usize, tokens| {
            let id = ids.next().expect("without end");
            waiting.push(standing(id, tenant, PRIORITIES[class]), tokens, id);
        };
        older.iter().for_each(|(tenant, class)| push(&mut waiting, *tenant, *class, 10));
        let patient = older.len() as u64;
        push(&mut waiting, Some(9), 0, 1_000);
        let mut places = 0;
        for (tenant, class, tokens) in newcomers {
            push(&mut waiting, tenant, class, tokens);
            places += 1;
            if waiting.next(None) == Some(patient) {
                break;
            }
        }
        prop_assert!(places <= (patient + 1) * TURNS_PER_OLDEST, "{places} places");
    }

    /// All come out once, and the queue forgets them.
    #[test]
    fn whoever_waits_comes_out_once(
        entries in prop::collection::vec((prop::option::of(0..4_u64), 0..3_usize, 0..4_u64), 1..40),
        leave in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        for (id, (tenant, class, deadline)) in entries.iter().enumerate() {
            let deadline = (*deadline > 0).then(|| start + millis(*deadline));
            let standing = Standing { deadline, ..standing(id as u64, *tenant, PRIORITIES[*class]) };
            waiting.push(standing, 5, id);
        }
        let mut out: Vec<usize> = waiting.expire(start + millis(2));
        prop_assert!(out.iter().all(|id| (1..=2).contains(&entries[*id].2)));
        out.extend(leave.iter().filter_map(|which| waiting.remove(which.index(entries.len()) as u64)));
        let above = waiting.next(Some(Priority::Normal));
        prop_assert!(above.is_none_or(|id| entries[id].1 == 2));
        out.extend(above);
        out.extend(std::iter::from_fn(|| waiting.next(None)));
        out.sort_unstable();
        prop_assert_eq!(out, (0..entries.len()).collect::<Vec<_>>());
        prop_assert!(waiting.is_empty());
    }

    /// Every answer has its token, prompts stay within the room, and nobody has two turns.
    #[test]
    fn a_plan_keeps_to_its_room(
        candidates in prop::collection::vec((any::<bool>(), prop::option::of(0..3_u64), 0..3_usize, 1..300_usize), 1..20),
        tokens in 1..400_usize,
        grid in prop::option::of(1..64_usize),
    ) {
        let room = Room { tokens: tokens.max(grid.unwrap_or(0)), grid };
        let mut order = Order::default();
        let mut planned: Vec<Candidate> = candidates.iter().enumerate().map(|(id, (decoding, tenant, class, _))| {
            order.shares.enter(*tenant);
            Candidate { standing: standing(id as u64, *tenant, PRIORITIES[*class]), decoding: *decoding, held: false, turn: order.tick() }
        }).collect();
        let turns = order.plan(&mut planned, room, |index| candidates[index].3);
        let mut indices: Vec<usize> = turns.iter().map(|turn| turn.index).collect();
        indices.sort_unstable();
        indices.dedup();
        prop_assert_eq!(indices.len(), turns.len());
        let answers = candidates.iter().filter(|candidate| candidate.0).count();
        prop_assert_eq!(turns.iter().filter(|turn| turn.is_decode && turn.tokens == 1).count(), answers);
        let prompts: Vec<_> = turns.iter().filter(|turn| !turn.is_decode).collect();
        let sum: usize = prompts.iter().map(|turn| turn.tokens).sum();
        prop_assert!(sum <= room.tokens && prompts.iter().all(|turn| turn.tokens <= candidates[turn.index].3));
        if let Some(grid) = grid {
            prop_assert!(prompts.iter().all(|turn| turn.tokens == candidates[turn.index].3.min(grid)));
        } else {
            let lacking: usize = candidates.iter().filter(|candidate| !candidate.0).map(|candidate| candidate.3).sum();
            prop_assert_eq!(sum, lacking.min(room.tokens), "no room is left unused");
        }
        prop_assert!(!prompts.is_empty() || answers == candidates.len());
    }

    /// On a machine whose steps take s + a · answers + c · prompt tokens, give or take a tenth, steps settle at the target.
    #[test]
    fn the_budget_settles_at_the_target(
        step_micros in 500..20_000_u64,
        answer_micros in 0..500_u64,
        token_micros in 20..2_000_u64,
        target_millis in 5..200_u64,
        answers in prop::collection::vec(1..32_usize, 4),
        noise in prop::collection::vec(900..1_100_u64, 160),
    ) {
        let (most, target) = (1_024, millis(target_millis));
        let takes = |answers: usize, tokens: usize, noise: u64| {
            let micros = step_micros + answer_micros * answers as u64 + token_micros * tokens as u64;
            Duration::from_nanos(micros * noise)
        };
        let mut costs = Costs::default();
        prop_assert_eq!(costs.prompt_tokens(1, target, most), LEAST, "nothing is known yet");
        costs.observe(0, 100, takes(0, 100, 1_000));
        costs.observe(1, 0, takes(1, 0, 1_000));
        for (round, noise) in noise.into_iter().enumerate() {
            // The load changes three times, and then stays for a while.
            let answers = answers[round / 40];
            let tokens = costs.prompt_tokens(answers, target, most);
            prop_assert!((LEAST..=most).contains(&tokens));
            costs.observe(answers, tokens, takes(answers, tokens, noise));
            if round % 40 >= 30 {
                let expected = takes(answers, tokens, 1_000);
                prop_assert!(tokens == LEAST || expected <= target.mul_f64(1.3), "{tokens} tokens take {expected:?}");
                let more = takes(answers, tokens + 2 * LEAST, 1_000);
                prop_assert!(tokens == most || more >= target.mul_f64(0.7), "{tokens} tokens leave room: {more:?}");
            }
        }
    }
}
