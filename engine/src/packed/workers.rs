//! One thread per core, all of them inside the whole step.
//!
//! A step is a sequence of stages. In a stage the workers take pieces of work from a common cursor until
//! there are none left, then meet at a barrier. The calling thread is worker 0. Between steps the others
//! wait, spinning for some microseconds, for the next step often follows at once, and then parked: an idle
//! pool uses no processor time.

use std::any::Any;
use std::cell::Cell;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Spins at a barrier before the thread offers its core to others: some 15 µs.
const BARRIER_SPINS: u32 = 1_000;
/// Spins between steps before the thread sleeps: some 50 µs.
const IDLE_SPINS: u32 = 3_000;

/// The threads. Dropping it ends them.
pub(crate) struct Workers {
    common: Arc<Common>,
    threads: Vec<JoinHandle<()>>,
}

/// A task has panicked; all workers have left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

impl Workers {
    /// A pool of `count` workers, the calling thread among them.
    pub(crate) fn new(count: usize) -> std::io::Result<Self> {
        let common = Arc::new(Common { count: count.max(1), ..Common::default() });
        let mut workers = Self { common, threads: Vec::new() };
        for index in 1..workers.common.count {
            let common = Arc::clone(&workers.common);
            let thread = std::thread::Builder::new().name(format!("packed-{index}"));
            workers.threads.push(thread.spawn(move || common.serve(index))?);
        }
        Ok(workers)
    }

    /// Runs `task` on every worker at once and waits for all of them.
    pub(crate) fn run(&mut self, task: &(dyn Fn(&Worker<'_>) + Sync)) -> Result<(), Panicked> {
        let common = &*self.common;
        common.cursor.store(0, Ordering::Relaxed);
        common.arrived.store(0, Ordering::Relaxed);
        common.failed.store(false, Ordering::Relaxed);
        common.start(task);
        common.work(0, task);
        common.wait_for_others();
        match common.lock().panic.take() {
            Some(message) => Err(Panicked(message)),
            None => Ok(()),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.common.lock();
        state.closed = true;
        self.common.epoch.fetch_add(1, Ordering::Release);
        drop(state);
        self.common.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has reported it already.
            let _ = thread.join();
        }
    }
}

/// A worker's view of the pool, inside a task.
pub(crate) struct Worker<'a> {
    common: &'a Common,
    /// Its number, from 0.
    pub(crate) index: usize,
    generation: Cell<usize>,
}

impl Worker<'_> {
    /// How many workers there are.
    pub(crate) fn count(&self) -> usize {
        self.common.count
    }

    /// Does its share of `count` pieces of work, then waits until all are done.
    pub(crate) fn stage(&self, count: usize, mut work: impl FnMut(usize)) {
        self.stage_runs(count, |run| run.for_each(&mut work));
    }

    /// The same, with `work` called for each run of pieces that it takes at once.
    pub(crate) fn stage_runs(&self, count: usize, mut work: impl FnMut(Range<usize>)) {
        // Small enough that nobody waits long at the end, large enough that memory is read in long runs.
        let share = (count / (self.count() * 6)).max(1);
        loop {
            let start = self.common.cursor.fetch_add(share, Ordering::Relaxed);
            if start >= count {
                break;
            }
            work(start..(start + share).min(count));
        }
        self.wait();
    }

    /// Waits until all workers are here. What any wrote before, all read after.
    fn wait(&self) {
        let common = self.common;
        let next = self.generation.get().wrapping_add(1);
        self.generation.set(next);
        if common.arrived.fetch_add(1, Ordering::AcqRel) + 1 == common.count {
            common.arrived.store(0, Ordering::Relaxed);
            common.cursor.store(0, Ordering::Relaxed);
            common.generation.store(next, Ordering::Release);
            return;
        }
        let mut spins = 0;
        while common.generation.load(Ordering::Acquire) != next {
            if common.failed.load(Ordering::Relaxed) {
                resume_unwind(Box::new(Abandoned));
            }
            pause(&mut spins);
        }
    }
}

/// What a worker unwinds with when another has panicked.
struct Abandoned;

#[derive(Default)]
struct Common {
    count: usize,
    /// The next piece of work of the stage.
    cursor: Padded,
    /// How many have reached the barrier.
    arrived: Padded,
    /// How many barriers have been passed.
    generation: Padded,
    /// Somebody has panicked in this task.
    failed: AtomicBool,
    /// How many tasks have been started.
    epoch: AtomicUsize,
    /// Workers that have not finished the task.
    busy: AtomicUsize,
    state: Mutex<State>,
    wake: Condvar,
}

/// A counter with cache lines of its own, so that waiting for it does not slow down the others.
#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicUsize);

impl Deref for Padded {
    type Target = AtomicUsize;

    fn deref(&self) -> &AtomicUsize {
        &self.0
    }
}

#[derive(Default)]
struct State {
    task: Option<Task>,
    closed: bool,
    panic: Option<String>,
}

/// A task without its lifetime.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(&Worker<'_>) + Sync));

#[expect(unsafe_code, reason = "a task crosses threads without its lifetime")]
// SAFETY: what it points to is `Sync`; that it is still there is argued where it is called.
unsafe impl Send for Task {}

impl Common {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is assigned to, never computed, while the lock is held: no panic leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(unsafe_code, reason = "a task crosses threads without its lifetime")]
    fn start(&self, task: &(dyn Fn(&Worker<'_>) + Sync)) {
        // SAFETY: only the lifetime is changed. `Workers::run`, which borrows the task, does not return
        // before `busy` is zero, and a worker calls the task only while it counts as busy.
        let task = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(&Worker<'_>) + Sync),
                *const (dyn Fn(&Worker<'_>) + Sync + 'static),
            >(task)
        };
        self.busy.store(self.count - 1, Ordering::Relaxed);
        let mut state = self.lock();
        state.task = Some(Task(task));
        self.epoch.fetch_add(1, Ordering::Release);
        drop(state);
        self.wake.notify_all();
    }

    /// The life of a worker other than the first.
    #[expect(unsafe_code, reason = "a task crosses threads without its lifetime")]
    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            self.wait_for_task(seen);
            seen = seen.wrapping_add(1);
            let state = self.lock();
            let (closed, task) = (state.closed, state.task);
            drop(state);
            let Some(task) = task.filter(|_| !closed) else { return };
            // SAFETY: the pool counts this worker as busy until the next line; so long the task lives.
            self.work(index, unsafe { &*task.0 });
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    fn work(&self, index: usize, task: &(dyn Fn(&Worker<'_>) + Sync)) {
        let generation = Cell::new(self.generation.load(Ordering::Relaxed));
        let worker = Worker { common: self, index, generation };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(&worker)))
            && !panic.is::<Abandoned>()
        {
            self.lock().panic.get_or_insert_with(|| message(panic));
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    fn wait_for_task(&self, seen: usize) {
        for _ in 0..IDLE_SPINS {
            if self.epoch.load(Ordering::Acquire) != seen {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while self.epoch.load(Ordering::Acquire) == seen {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_others(&self) {
        let mut spins = 0;
        while self.busy.load(Ordering::Acquire) > 0 {
            pause(&mut spins);
        }
    }
}

fn pause(spins: &mut u32) {
    if *spins < BARRIER_SPINS {
        *spins += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_every_stage_is_done_once_and_in_order() {
        for count in 1..=4 {
            let mut workers = Workers::new(count).expect("threads");
            let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..20 {
                let result = workers.run(&|worker| {
                    for round in 0..50 {
                        worker.stage(done.len(), |index| {
                            assert_eq!(done[index].fetch_add(1, Ordering::Relaxed) % 50, round);
                        });
                    }
                });
                assert_eq!(result, Ok(()));
            }
            assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 20 * 50));
        }
    }

    #[test]
    fn a_panic_is_reported_and_the_pool_goes_on() {
        let mut workers = Workers::new(3).expect("threads");
        for unlucky in 0..3 {
            let result = workers.run(&|worker| {
                worker.stage(3, |_| {});
                assert_ne!(worker.index, unlucky, "bad luck");
                worker.stage(3, |_| {});
            });
            assert!(result.is_err_and(|panic| panic.0.contains("bad luck")));
            assert_eq!(workers.run(&|worker| worker.stage(3, |_| {})), Ok(()));
        }
    }
}
