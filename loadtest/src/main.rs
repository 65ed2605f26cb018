//! `dividend-loadtest`: arguments → plan → run → report.

use std::process::ExitCode;

use clap::Parser;
use dividend_loadtest::args::Args;
use dividend_loadtest::run;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let plan = args.plan()?;
    eprintln!("{plan}");
    let report = run::blocking(plan, args.threads())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.calls.ok > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
