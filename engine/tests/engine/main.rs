//! The engine from outside: the real model's tokens and answers, hostile files, forks.

mod common;
mod families;
mod forks;
mod generate;
mod hostile;
mod others;
#[path = "../packed/tiny.rs"]
#[expect(dead_code, reason = "this is for the tests of the packed kernels too")]
mod sized;
mod tiny;
mod tokens;
