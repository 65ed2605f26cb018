//! The engine from outside: the real model's tokens and answers, hostile files, forks.

mod adapters;
mod choices;
mod common;
mod constrained;
mod families;
mod forks;
mod gemma;
mod generate;
mod hostile;
mod others;
#[path = "../packed/peft.rs"]
mod peft;
mod settings;
#[path = "../packed/tiny.rs"]
#[expect(dead_code, reason = "this is for the tests of the packed kernels too")]
mod sized;
mod tiny;
mod tokens;
