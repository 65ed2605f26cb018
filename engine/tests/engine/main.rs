//! The engine from outside: the real model's tokens and answers, hostile files, forks.

mod common;
mod forks;
mod generate;
mod hostile;
mod settings;
mod tiny;
mod tokens;
