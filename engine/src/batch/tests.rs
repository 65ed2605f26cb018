//! Scheduling, tried with a model that does as it is told.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Limits, Model, Service};
use crate::{GenerationError, Health, SubmitError};

/// Answers with the input, after a permit for every step; reports what each step computed.
struct Echo {
    permits: Receiver<()>,
    steps: Sender<Vec<usize>>,
}

const PANIC: usize = 1_000;
const NOT_FINITE: usize = 1_001;

impl Model for Echo {
    type Input = usize;
    type Output = usize;

    fn cost(input: &usize) -> usize {
        (*input).clamp(1, 10)
    }

    fn compute(&mut self, inputs: &[&usize]) -> Vec<Result<usize, GenerationError>> {
        self.permits.recv().expect("the test outlives the thread");
        self.steps.send(inputs.iter().map(|input| **input).collect()).expect("the test listens");
        assert!(!inputs.contains(&&PANIC), "told to");
        inputs
            .iter()
            .map(|input| if **input == NOT_FINITE { Err(GenerationError::NotFinite) } else { Ok(**input) })
            .collect()
    }
}

struct Rig {
    service: Service<Echo>,
    permits: Sender<()>,
    steps: Receiver<Vec<usize>>,
}

fn rig(queue: usize, budget: usize) -> Rig {
    let ((permits, allowed), (report, steps)) = (channel(), channel());
    let model = Echo { permits: allowed, steps: report };
    let service = Service::start("echo", model, Limits { queue, budget }).expect("a thread");
    Rig { service, permits, steps }
}

impl Rig {
    fn step(&self) -> Vec<usize> {
        self.permits.send(()).expect("the thread lives");
        self.steps.recv().expect("the thread lives")
    }

    /// A request that the worker has taken: its step waits for a permit.
    fn blocked(&self) -> super::Pending<usize> {
        let pending = self.service.submit(vec![10]).expect("room");
        while self.service.stats().queued > 0 {
            std::thread::yield_now();
        }
        pending
    }
}

#[test]
fn requests_take_turns_within_the_budget() {
    let rig = rig(8, 4);
    let first = rig.blocked();
    let long = rig.service.submit(vec![1; 6]).expect("room");
    let short = rig.service.submit(vec![2]).expect("room");
    assert_eq!(rig.step(), [10], "one that is beyond the budget goes alone");
    assert_eq!(first.wait(), Ok(vec![10]));
    assert_eq!(rig.step(), [1, 2, 1], "in turn, four units");
    assert_eq!(short.wait(), Ok(vec![2]));
    assert_eq!(rig.step(), [1, 1, 1, 1]);
    assert_eq!(long.wait(), Ok(vec![1; 6]));
    let stats = rig.service.stats();
    assert_eq!((stats.steps, stats.inputs, stats.units, stats.finished), (3, 8, 18, 3));
}

#[test]
fn a_full_queue_refuses_and_those_who_leave_make_room() {
    let rig = rig(2, 4);
    let running = rig.blocked();
    let [stays, leaves] = [5, 6].map(|input| rig.service.submit(vec![input]).expect("room"));
    assert_eq!(rig.service.submit(vec![7]).err(), Some(SubmitError::QueueFull { limit: 2 }));
    drop(leaves);
    let next = rig.service.submit(vec![7]).expect("the place of the one who left");
    drop(running);
    assert_eq!([rig.step(), rig.step(), rig.step()], [[10], [5], [7]]);
    assert_eq!((stays.wait(), next.wait()), (Ok(vec![5]), Ok(vec![7])));
}

#[test]
fn a_request_that_nobody_waits_for_ends_between_two_steps() {
    let rig = rig(8, 1);
    let mut long = Some(rig.service.submit(vec![1; 100]).expect("room"));
    assert_eq!(rig.step(), [1]);
    let other = rig.service.submit(vec![9]).expect("room");
    drop(long.take());
    let mut steps = 0;
    while rig.step() != [9] {
        steps += 1;
    }
    assert!(steps <= 1, "{steps} steps for nobody");
    assert_eq!(other.wait(), Ok(vec![9]));
    assert_eq!(rig.service.stats().cancelled, 1);
}

#[test]
fn a_panic_fails_its_step_and_three_end_the_service() {
    let rig = rig(8, 1);
    for round in 1..=3 {
        let failing = rig.service.submit(vec![PANIC]).expect("still in service");
        let _ = rig.step();
        let failed = failing.wait();
        assert!(matches!(failed, Err(GenerationError::Panicked(_))), "{round}: {failed:?}");
        if round == 2 {
            let fine = rig.service.submit(vec![3]).expect("still in service");
            assert!(matches!(rig.service.health(), Health::Degraded { failures: 2, .. }));
            assert_eq!((rig.step(), fine.wait()), (vec![3], Ok(vec![3])));
            assert_eq!(rig.service.health(), Health::Ready);
        }
    }
    for _ in 0..2 {
        let failing = rig.service.submit(vec![PANIC]).expect("still in service");
        let _ = rig.step();
        assert!(failing.wait().is_err());
    }
    while !matches!(rig.service.health(), Health::Failed { .. }) {
        std::thread::yield_now();
    }
    assert!(matches!(rig.service.submit(vec![1]), Err(SubmitError::Unhealthy { .. })));
}

#[test]
fn an_input_without_a_finite_answer_leaves_the_service_ready() {
    let rig = rig(8, 100);
    for _ in 0..4 {
        let failing = rig.service.submit(vec![1, NOT_FINITE]).expect("in service");
        let _ = rig.step();
        assert_eq!(failing.wait(), Err(GenerationError::NotFinite));
    }
    assert_eq!((rig.service.health(), rig.service.stats().failed), (Health::Ready, 4));
}

#[test]
fn what_was_taken_is_finished_after_the_service_is_dropped() {
    let rig = rig(8, 100);
    let taken = rig.service.submit(vec![4]).expect("room");
    drop(rig.service);
    rig.permits.send(()).expect("the thread lives");
    assert_eq!(taken.wait(), Ok(vec![4]));
    assert_eq!(rig.steps.iter().collect::<Vec<_>>(), [[4]], "and then the thread ends");
}
