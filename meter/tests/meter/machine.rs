//! A state machine over the journal: random calls, counts, closes, seals and crashes with torn tails. I1 and I2 hold after
//! every recovery, and all that is derived equals an independent model.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::support::*;
use dividend_meter::{CallGuard, CallId, CloseReason, Meter, Payer, Usage, audit};
use dividend_registry::ModelId;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Open {
        payer: u8,
        model: u8,
    },
    Count {
        call: prop::sample::Index,
        prompt: u8,
        output: u8,
    },
    Close {
        call: prop::sample::Index,
    },
    Drop {
        call: prop::sample::Index,
    },
    Voucher {
        channel: u8,
        lane: u8,
        max: u16,
    },
    Seal,
    /// The process dies; `torn` bytes of a record are left behind the journal.
    Crash {
        torn: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let call = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0u8..3, 0u8..2).prop_map(|(payer, model)| Step::Open { payer, model }),
        6 => (call(), any::<u8>(), any::<u8>()).prop_map(|(call, prompt, output)| Step::Count { call, prompt, output }),
        3 => call().prop_map(|call| Step::Close { call }),
        1 => call().prop_map(|call| Step::Drop { call }),
        1 => (0u8..2, 0u8..2, any::<u16>()).prop_map(|(channel, lane, max)| Step::Voucher { channel, lane, max }),
        1 => Just(Step::Seal),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|torn| Step::Crash { torn }),
    ]
}

/// What must be true, kept by the test alone.
#[derive(Default)]
struct Oracle {
    open: BTreeMap<CallId, (Payer, ModelId, Usage)>,
    closed: BTreeMap<CallId, (Payer, ModelId, Usage)>,
    seals: u64,
    closed_in_window: u64,
}

struct World {
    dir: tempfile::TempDir,
    meter: Meter,
    guards: Vec<CallGuard>,
    oracle: Oracle,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (meter, _) = open(dir.path());
        Self { dir, meter, guards: Vec::new(), oracle: Oracle::default() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open { payer, model: index } => self.open(payer, index),
            Step::Count { call, prompt, output } => self.count(call, prompt.into(), output.into()),
            Step::Close { call } => {
                if let Some(guard) = self.take(call) {
                    let closed = guard.close(CloseReason::Stop).unwrap();
                    assert_eq!(closed.record.window, self.oracle.seals);
                }
            }
            Step::Drop { call } => drop(self.take(call)),
            Step::Voucher { channel, lane, max } => {
                self.meter.journal_voucher(voucher(channel, lane, max.into()), [1; 65]).unwrap();
            }
            Step::Seal => self.seal(),
            Step::Crash { torn } => self.crash(&torn),
        }
    }

    fn open(&mut self, payer: u8, index: u8) {
        let payer = if payer == 0 { channel(payer) } else { key(payer) };
        if self.guards.len() == options().slots as usize {
            assert!(self.meter.open_call(opening(payer, model(index))).is_err());
            return;
        }
        let guard = self.meter.open_call(opening(payer, model(index))).unwrap();
        self.oracle.open.insert(guard.id(), (payer, model(index), Usage::default()));
        self.guards.push(guard);
    }

    fn count(&mut self, call: prop::sample::Index, prompt: u32, output: u32) {
        if self.guards.is_empty() {
            return;
        }
        let guard = &self.guards[call.index(self.guards.len())];
        guard.prefilled(prompt);
        guard.generated(output);
        let (_, _, usage) = self.oracle.open.get_mut(&guard.id()).unwrap();
        usage.prompt_tokens += prompt;
        usage.completion_tokens += output;
    }

    fn take(&mut self, call: prop::sample::Index) -> Option<CallGuard> {
        if self.guards.is_empty() {
            return None;
        }
        let guard = self.guards.swap_remove(call.index(self.guards.len()));
        let ended = self.oracle.open.remove(&guard.id()).unwrap();
        self.oracle.closed.insert(guard.id(), ended);
        self.oracle.closed_in_window += 1;
        Some(guard)
    }

    fn seal(&mut self) {
        let sealed = self.meter.seal_window().unwrap();
        assert_eq!(sealed.is_some(), self.oracle.closed_in_window > 0);
        if let Some(seal) = sealed {
            assert_eq!(seal.window, self.oracle.seals);
            assert_eq!(seal.totals.iter().map(|row| row.calls).sum::<u64>(), self.oracle.closed_in_window);
            self.oracle.seals += 1;
            self.oracle.closed_in_window = 0;
        }
    }

    /// Continues from a copy of what is on the disk, as if the process had died here.
    fn crash(&mut self, torn: &[u8]) {
        let after = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), after.path());
        let last = segments(after.path()).pop().unwrap();
        std::fs::OpenOptions::new().append(true).open(last).unwrap().write_all(torn).unwrap();
        let (meter, recovered) = open(after.path());
        assert_eq!(recovered.cut_bytes, torn.len() as u64);
        assert_eq!(recovered.closed.len(), self.oracle.open.len());
        assert!(recovered.closed.iter().all(|close| close.reason == CloseReason::Recovered));
        self.oracle.closed_in_window += self.oracle.open.len() as u64;
        self.oracle.closed.append(&mut self.oracle.open);
        self.meter = meter;
        self.guards.clear();
        self.dir = after;
    }

    /// I1: every call opened is closed exactly once. I2, here without a client: what was counted is what is charged.
    fn check(&self) {
        assert_ledger(&self.meter, &self.oracle);
        let report = audit(self.dir.path()).unwrap().unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.calls, self.oracle.closed.len() as u64);
        assert_eq!(report.open_calls, self.oracle.open.keys().copied().collect::<Vec<_>>());
        assert_eq!(report.windows.len() as u64, self.oracle.seals);
        assert_closes(self.dir.path(), &self.oracle);
    }
}

fn assert_ledger(meter: &Meter, oracle: &Oracle) {
    let mut lanes = BTreeMap::<_, (u64, u64, u64)>::new();
    for (payer, model, usage) in oracle.closed.values() {
        let (calls, prompt, output) = lanes.entry((*payer, *model)).or_default();
        *calls += 1;
        *prompt += u64::from(usage.prompt_tokens);
        *output += u64::from(usage.completion_tokens);
    }
    for ((payer, model), (calls, prompt, output)) in lanes {
        let totals = meter.lane_total(payer, model);
        assert_eq!((totals.calls, totals.prompt_tokens, totals.completion_tokens), (calls, prompt, output));
        assert_eq!(totals.charge.pico(), u128::from(prompt) * 3 + u128::from(output) * 7);
    }
}

fn assert_closes(dir: &Path, oracle: &Oracle) {
    let mut reader = dividend_meter::journal::Reader::open(dir).unwrap().unwrap();
    let mut closed = BTreeMap::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if let dividend_meter::journal::Record::Close(close) = entry.record {
            assert_eq!(
                closed.insert(close.call, (close.payer, close.model, close.usage)),
                None,
                "closed twice"
            );
        }
    }
    assert_eq!(closed, oracle.closed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn calls_are_closed_once_with_what_was_counted(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.check();
        world.crash(&[1, 2, 3]);
        world.check();
    }
}
