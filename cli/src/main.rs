//! `dividend`: the one binary. Each command has a file of its own; the long-running ones, `serve` and `settle`, are
//! meant to be children of `up` or of a service manager.

mod access;
mod admin;
mod args;
mod artifacts;
mod audit;
mod bench;
mod bootstrap;
mod child;
mod claim;
mod deploy;
mod down;
mod earnings;
mod escrow;
mod failure;
mod faucet;
mod home;
mod http;
mod identity;
mod journal;
mod keys;
mod limits;
mod model;
mod output;
mod pay;

mod runtime;
mod serve;
mod settings;
mod settle;
mod stack;
mod status;
mod stop;
mod track;
mod up;
mod window;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = args::parse().and_then(args::Cli::run);
    failure::exit(outcome)
}
