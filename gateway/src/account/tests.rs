//! I10: no budget is exceeded by concurrency, and no hold outlives its call by more than its expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::{Account, Held, Hold, Limits, Wanted};
use crate::error::ApiError;

const CREDIT: u64 = 1_000;
const EXPIRY_MS: u64 = 500;

/// What may happen to an account, in any order.
#[derive(Clone, Debug)]
enum Act {
    /// A call reserves its worst case.
    Begin {
        worst: u64,
    },
    /// A call in flight ends, having cost some per mille of its worst case.
    End {
        which: usize,
        per_mille: u64,
    },
    /// A call in flight is forgotten: its hold leaks.
    Leak {
        which: usize,
    },
    Wait {
        ms: u64,
    },
    Limits {
        tokens: u64,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1u64..400).prop_map(|worst| Act::Begin { worst }),
        4 => (any::<usize>(), 0u64..=1_000).prop_map(|(which, per_mille)| Act::End { which, per_mille }),
        1 => any::<usize>().prop_map(|which| Act::Leak { which }),
        1 => (0u64..300).prop_map(|ms| Act::Wait { ms }),
        1 => (100u64..10_000).prop_map(|tokens| Act::Limits { tokens }),
    ];
    prop::collection::vec(act, 1..120)
}

fn account(tokens_per_minute: u64) -> Arc<Account> {
    Account::new(Limits { requests_per_minute: 1_000_000, tokens_per_minute, concurrency: 1_000 })
}

fn reserve(account: &Arc<Account>, worst: u64, now_ms: u64, spent: u64) -> Result<Hold, ApiError> {
    let wanted = Wanted { tokens: worst, pico: worst.into(), lane: [0; 32], expires_ms: now_ms + EXPIRY_MS };
    account.reserve(wanted, now_ms, |Held { total_pico, .. }| {
        let remaining_pico = u128::from(CREDIT - spent).saturating_sub(total_pico);
        let needed_pico = wanted.pico;
        if needed_pico <= remaining_pico {
            Ok(())
        } else {
            Err(ApiError::Budget { needed_pico, remaining_pico })
        }
    })
}

proptest! {
    #[test]
    fn spent_and_held_never_exceed_the_credit(acts in acts()) {
        let account = account(1_000_000);
        let (mut now, mut spent) = (0, 0);
        let mut calls: Vec<(Hold, u64)> = Vec::new();
        let mut leaked: Vec<(u64, u64)> = Vec::new();
        for act in acts {
            match act {
                Act::Begin { worst } => {
                    if let Ok(hold) = reserve(&account, worst, now, spent) {
                        calls.push((hold, worst));
                    }
                }
                Act::End { which, per_mille } if !calls.is_empty() => {
                    let (mut hold, worst) = calls.swap_remove(which % calls.len());
                    let cost = worst * per_mille / 1_000;
                    spent += cost;
                    hold.use_tokens(cost);
                    drop(hold);
                }
                Act::Leak { which } if !calls.is_empty() => {
                    let (hold, worst) = calls.swap_remove(which % calls.len());
                    leaked.push((now + EXPIRY_MS, worst));
                    std::mem::forget(hold);
                }
                // Calls end before their holds expire: the gateway cuts them, so time passes only between calls.
                Act::Wait { ms } if calls.is_empty() => now += ms,
                Act::Limits { tokens } => account.set_limits(
                    Limits { requests_per_minute: 1, tokens_per_minute: tokens, concurrency: 1_000 }, now),
                _ => {}
            }
            let held = account.in_use(now).0;
            let in_flight: u64 = calls.iter().map(|(_, worst)| worst).sum();
            let leaking: u64 = leaked.iter().filter(|(until, _)| *until > now).map(|(_, worst)| worst).sum();
            prop_assert!(u128::from(spent) + held <= u128::from(CREDIT));
            prop_assert!(held >= u128::from(in_flight), "a call in flight has lost its hold");
            prop_assert!(held <= u128::from(in_flight + leaking), "a leaked hold outlived its expiry");
        }
        calls.clear();
        prop_assert_eq!(account.in_use(now + EXPIRY_MS).0, 0);
    }
}

/// The same with real threads: eight of them reserve, spend and settle as fast as they can.
#[test]
fn threads_cannot_overspend_together() {
    let account = account(u64::MAX / 100_000);
    let spent = AtomicU64::new(0);
    let (mut granted, mut refused) = (0u64, 0u64);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8u64)
            .map(|seed| {
                let (account, spent) = (&account, &spent);
                scope.spawn(move || {
                    let (mut granted, mut refused) = (0, 0);
                    for turn in 0..200 {
                        let worst = 1 + (seed * 7 + turn * 13) % 40;
                        // The order of the gateway: what was spent is read under the account's lock.
                        let wanted =
                            Wanted { tokens: 1, pico: worst.into(), lane: [0; 32], expires_ms: u64::MAX };
                        let hold = account.reserve(wanted, 0, |held| {
                            let free = u128::from(CREDIT) - u128::from(spent.load(Ordering::SeqCst));
                            if held.total_pico + u128::from(worst) <= free {
                                Ok(())
                            } else {
                                Err(ApiError::Draining)
                            }
                        });
                        match hold {
                            Ok(hold) => {
                                granted += 1;
                                spent.fetch_add(worst / 2, Ordering::SeqCst);
                                drop(hold);
                            }
                            Err(_) => refused += 1,
                        }
                    }
                    (granted, refused)
                })
            })
            .collect();
        for worker in workers {
            let (more, less) = worker.join().expect("no panic");
            granted += more;
            refused += less;
        }
    });
    let spent = spent.into_inner();
    assert!(spent <= CREDIT, "{spent} of {CREDIT}");
    assert!(granted > 0 && refused > 0, "both must have happened: {granted} {refused}");
    assert_eq!(account.in_use(0).0, 0);
}
