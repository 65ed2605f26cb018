//! The command line, and the plan that it means.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;

use crate::arrivals::Arrivals;
use crate::plan::{Load, Plan};
use crate::target::{Call, Target};

/// Open-loop load for an OpenAI-style endpoint, with latencies counted from the intended start of each call.
#[derive(Debug, Parser)]
#[command(name = "dividend-loadtest", version)]
pub struct Args {
    /// Base URL as an OpenAI client takes it, such as http://127.0.0.1:7410/v1
    pub base_url: String,
    /// Model to ask for
    #[arg(long)]
    pub model: String,
    /// Calls per second to start, in open loop
    #[arg(long, default_value_t = 10.0, conflicts_with = "closed")]
    pub rate: f64,
    /// Draw the gaps between calls from an exponential distribution (a Poisson process) instead of a fixed one
    #[arg(long, conflicts_with = "closed")]
    pub poisson: bool,
    /// Seed of the Poisson draw
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Closed loop instead: N callers, each starting its next call when the last one ends
    #[arg(long, value_name = "N")]
    pub closed: Option<usize>,
    /// Seconds during which calls start
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds at the beginning whose calls are sent but not counted
    #[arg(long, default_value_t = 0.0)]
    pub warmup: f64,
    /// Most calls in flight at once in open loop; a call due beyond it waits, and its wait counts
    #[arg(long, default_value_t = 256)]
    pub concurrency: u32,
    /// Seconds after which a call is given up
    #[arg(long, default_value_t = 60.0)]
    pub timeout: f64,
    /// Ask for a stream, and measure first-token and inter-token times
    #[arg(long)]
    pub stream: bool,
    /// Length of the prompt in words (about one token each)
    #[arg(long, default_value_t = 32)]
    pub prompt_words: usize,
    /// Most tokens to generate per call
    #[arg(long, default_value_t = 32)]
    pub max_tokens: u32,
    /// File with the API key
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// API key
    #[arg(long, env = "DIVIDEND_LOADTEST_KEY", hide_env_values = true, conflicts_with = "key_file")]
    pub key: Option<String>,
    /// Threads of the generator [default: one per core]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The plan of the run.
    ///
    /// # Errors
    /// A URL, rate, duration or key file that cannot be used, named with what would be right.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let duration = seconds("--duration", self.duration)?;
        let warmup = seconds("--warmup", self.warmup)?;
        ensure!(!duration.is_zero(), "--duration 0 sends nothing; give the seconds during which calls start");
        ensure!(warmup < duration, "--warmup {warmup:?} must be shorter than --duration {duration:?}");
        let target = Target::parse(&self.base_url)?;
        let call = Call {
            model: self.model.clone(),
            prompt_words: self.prompt_words,
            max_tokens: self.max_tokens,
            stream: self.stream,
            key: self.api_key()?,
        };
        let timeout = seconds("--timeout", self.timeout)?;
        ensure!(!timeout.is_zero(), "--timeout 0 gives up every call at once; give a few seconds");
        Ok(Plan { target, call, load: self.load()?, duration, warmup, timeout })
    }

    /// Threads for the generator's runtime.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    fn load(&self) -> anyhow::Result<Load> {
        if let Some(callers) = self.closed {
            ensure!(callers > 0, "--closed 0 has nobody to call; give at least 1");
            return Ok(Load::Closed { callers });
        }
        ensure!(self.concurrency > 0, "--concurrency 0 lets nothing be sent; give at least 1");
        ensure!(
            self.rate.is_finite() && self.rate > 0.0 && self.rate <= 1e6,
            "--rate {} is not a rate; give calls per second, above 0 and up to 1000000",
            self.rate
        );
        let arrivals =
            if self.poisson { Arrivals::poisson(self.rate, self.seed) } else { Arrivals::fixed(self.rate) };
        Ok(Load::Open { arrivals, concurrency: self.concurrency })
    }

    fn api_key(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.key_file else { return Ok(self.key.clone()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the API key from {}", path.display()))?;
        Ok(Some(text.trim().to_owned()))
    }
}

fn seconds(flag: &str, value: f64) -> anyhow::Result<Duration> {
    let valid = value.is_finite() && (0.0..=86_400.0).contains(&value);
    ensure!(valid, "{flag} {value} is not a time; give seconds between 0 and 86400");
    Ok(Duration::from_secs_f64(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> anyhow::Result<Plan> {
        let line = ["dividend-loadtest", "http://127.0.0.1:1/v1", "--model", "m"].iter().chain(args);
        Args::try_parse_from(line)?.plan()
    }

    #[test]
    fn the_command_line_becomes_a_plan() {
        let open = plan(&["--rate", "50", "--duration", "2.5", "--concurrency", "9"]).unwrap();
        assert_eq!(open.duration, Duration::from_millis(2500));
        assert!(matches!(open.load, Load::Open { concurrency: 9, .. }));
        assert!(matches!(plan(&["--closed", "4"]).unwrap().load, Load::Closed { callers: 4 }));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_value() {
        let bad: &[(&[&str], &str)] = &[
            (&["--rate", "0"], "--rate 0"),
            (&["--rate", "NaN"], "--rate NaN"),
            (&["--duration", "-1"], "--duration -1"),
            (&["--duration", "0"], "--duration 0"),
            (&["--duration", "1", "--warmup", "1"], "--warmup 1s"),
            (&["--closed", "0"], "--closed 0"),
            (&["--concurrency", "0"], "--concurrency 0"),
            (&["--timeout", "0"], "--timeout 0"),
            (&["--key-file", "/nonexistent"], "/nonexistent"),
        ];
        for (args, names) in bad {
            // `--duration -1` needs the equals form to pass clap.
            let joined: Vec<String> = match args {
                [flag, value] if value.starts_with('-') => vec![format!("{flag}={value}")],
                other => other.iter().map(|s| (*s).to_owned()).collect(),
            };
            let refs: Vec<&str> = joined.iter().map(String::as_str).collect();
            let message = format!("{:#}", plan(&refs).unwrap_err());
            assert!(message.contains(names), "{args:?}: {message}");
        }
        assert!(plan(&["--closed", "4", "--rate", "3"]).is_err());
    }

    #[test]
    fn the_key_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "dk-123\n").unwrap();
        let plan = plan(&["--key-file", file.to_str().unwrap()]).unwrap();
        assert_eq!(plan.call.key.as_deref(), Some("dk-123"));
    }
}
