//! The engine from outside: the real model's tokens and answers, hostile files, forks.

mod adapters;
mod common;
mod forks;
mod generate;
mod hostile;
#[path = "../packed/peft.rs"]
mod peft;
mod tiny;
mod tokens;
