//! The engine from outside: the real model's tokens and answers, hostile files, forks.

mod adapters;
mod choices;
mod common;
mod constrained;
mod forks;
mod gemma;
mod generate;
mod hostile;
mod settings;
#[path = "../packed/peft.rs"]
mod peft;
mod tiny;
mod tokens;
