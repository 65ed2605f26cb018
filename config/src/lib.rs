//! Typed settings of Dividend, one struct and one file per section.
//!
//! A settings file is TOML. Every key has a default, unknown keys are refused, and every bad value of a file is
//! reported in one run, each with its path, its value and what would be right. A part of the system receives its own
//! section only; [`Settings`] is seen whole by the command line alone.
//!
//! ```
//! let settings = dividend_config::Settings::parse("[meter]\nwindow_ms = 60_000\n").unwrap();
//! assert_eq!(settings.meter.window_ms, 60_000);
//! assert_eq!(settings.limits, dividend_config::Limits::default());
//! ```

mod chain;
mod check;
mod dashboard;
mod engine;
mod gateway;
mod limits;
mod log;
mod meter;
mod prices;
mod problem;
mod read;
mod redis;
mod settlement;

pub use chain::{Chain, Finality};
pub use dashboard::Dashboard;
pub use engine::{Engine, EngineBackend, KvType, PrefixSharing};
pub use gateway::Gateway;
pub use limits::Limits;
pub use log::{Log, LogFormat};
pub use meter::{Durability, Meter};
pub use prices::{Price, PriceRule, Prices, Quote};
pub use problem::{Problem, SettingsError};
pub use redis::Redis;
pub use settlement::Settlement;

use std::path::Path;

/// The shipped example: every key with its default and a comment.
pub const EXAMPLE: &str = include_str!("../settings.example.toml");

/// Time for a batch to be sent and mined. It includes the half minute of life that settlement wants a voucher to have left.
const MINING_MS: u64 = 60_000;

/// All sections of a settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The HTTP face towards callers.
    pub gateway: Gateway,
    /// Inference.
    pub engine: Engine,
    /// Journal, windows and aggregate.
    pub meter: Meter,
    /// The Redis that holds the aggregate, if any.
    pub redis: Redis,
    /// RPC endpoints and finality.
    pub chain: Chain,
    /// When sealed windows go on chain.
    pub settlement: Settlement,
    /// What a token costs.
    pub prices: Prices,
    /// What a key may do unless it has limits of its own.
    pub limits: Limits,
    /// The dashboard's listener.
    pub dashboard: Dashboard,
    /// Logs.
    pub log: Log,
}

impl Settings {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`SettingsError::Read`] if the file cannot be read, otherwise as [`Settings::parse`].
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads and checks a settings text.
    ///
    /// # Errors
    /// [`SettingsError::Syntax`] if it is not TOML, [`SettingsError::Invalid`] with every unknown key and every bad
    /// value it contains.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let root = text.parse::<toml::Table>().map_err(|error| SettingsError::Syntax(error.to_string()))?;
        let mut reader = read::Reader::new(root);
        let settings = Self {
            gateway: reader.section(),
            engine: reader.section(),
            meter: reader.section(),
            redis: reader.section(),
            chain: reader.section(),
            settlement: reader.section(),
            prices: reader.section(),
            limits: reader.section(),
            dashboard: reader.section(),
            log: reader.section(),
        };
        let mut problems = reader.finish();
        settings.check_across(&mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(SettingsError::Invalid(problems)) }
    }

    /// Longest that value served to a channel waits until it is redeemed: the rest of its window, the batch's age, and what
    /// sending and mining take.
    pub fn redeem_latency_ms(&self) -> u64 {
        self.meter.window_ms.saturating_add(self.settlement.batch_age_ms).saturating_add(MINING_MS)
    }

    /// Whether payers who can withdraw their deposits after `delay_s` can be served: what they used must be redeemed before,
    /// even if the withdrawal is asked for at the worst moment and the first attempt to redeem fails.
    ///
    /// # Errors
    /// What is too long for that delay.
    pub fn check_withdrawal_delay(&self, delay_s: u64) -> Result<(), Problem> {
        let (delay_ms, latency_ms) = (delay_s.saturating_mul(1_000), self.redeem_latency_ms());
        let needed_ms = latency_ms.saturating_mul(2);
        let problem = |path: &str, value: u64, problem: String, remedy: String| {
            Err(Problem { path: path.to_owned(), value: value.to_string(), problem, remedy })
        };
        if delay_ms < needed_ms {
            return problem(
                "chain.withdrawal_delay_s",
                delay_s,
                format!(
                    "lets a deposit go before what it paid for is redeemed, which may take {latency_ms} ms"
                ),
                format!(
                    "deploy with at least {} s (twice that), or shorten meter.window_ms and settlement.batch_age_ms",
                    needed_ms.div_ceil(1_000)
                ),
            );
        }
        let oldest_ms = delay_ms.saturating_sub(latency_ms);
        if self.chain.max_snapshot_age_ms > oldest_ms {
            return problem(
                "chain.max_snapshot_age_ms",
                self.chain.max_snapshot_age_ms,
                "would serve channels whose deposit may be gone before it is redeemed".to_owned(),
                format!("give at most {oldest_ms} ms: the withdrawal delay less the time to redeem"),
            );
        }
        Ok(())
    }

    /// What no section can see alone: two listeners on one address, deposits that go before they are redeemed.
    fn check_across(&self, problems: &mut Vec<Problem>) {
        problems.extend(self.check_withdrawal_delay(self.chain.withdrawal_delay_s).err());
        let listeners = [
            ("gateway.listen", self.gateway.listen),
            ("gateway.admin_listen", self.gateway.admin_listen),
            ("dashboard.listen", self.dashboard.listen),
        ];
        for (index, (path, address)) in listeners.iter().enumerate() {
            let Some((first, _)) = listeners[..index].iter().find(|(_, other)| other == address) else {
                continue;
            };
            if address.port() != 0 {
                problems.push(Problem {
                    path: (*path).to_owned(),
                    value: format!("\"{address}\""),
                    problem: format!("is the address of {first}"),
                    remedy: "give each listener a port of its own, or port 0 for a free one".to_owned(),
                });
            }
        }
    }
}
