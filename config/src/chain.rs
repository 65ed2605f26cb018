//! `[chain]`: RPC endpoints, finality, and how old a view of the chain may be.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use crate::check::Check;
use crate::read::Section;

/// RPC endpoints and finality.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chain {
    /// `http://` or `https://` endpoints; the first that answers is used.
    pub rpc_urls: Vec<String>,
    /// The chain id that every endpoint must report; not checked if not given.
    pub chain_id: Option<u64>,
    /// Where the contracts are; `deployment.json` of the home if not given.
    pub deployment: Option<PathBuf>,
    /// When a block counts for money.
    pub finality: Finality,
    /// Pause between two looks at the chain's head.
    pub poll_ms: u64,
    /// Time an RPC request may take before the next endpoint is asked.
    pub rpc_timeout_ms: u64,
    /// Blocks asked for in one `eth_getLogs`.
    pub max_log_blocks: u64,
    /// Age of the snapshot beyond which no paid call is served.
    pub max_snapshot_age_ms: u64,
    /// Delay between a request to withdraw from a channel and the withdrawal, fixed when contracts are deployed.
    pub withdrawal_delay_s: u64,
    /// Time in which a matured withdrawal can be taken before it lapses, fixed when contracts are deployed.
    pub withdrawal_window_s: u64,
    /// Highest fee per gas that a transaction may offer.
    pub max_fee_per_gas_wei: u64,
    /// Age of an unmined transaction at which its fee is raised.
    pub fee_bump_after_ms: u64,
}

/// When a block counts for money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// At the chain's `finalized` tag.
    Finalized,
    /// When this many blocks are on top of it; for local chains.
    Depth(u64),
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            rpc_urls: vec!["http://127.0.0.1:7413".to_owned()],
            chain_id: None,
            deployment: None,
            finality: Finality::Finalized,
            poll_ms: 500,
            rpc_timeout_ms: 5_000,
            max_log_blocks: 2_000,
            max_snapshot_age_ms: 600_000,
            withdrawal_delay_s: 86_400,
            withdrawal_window_s: 86_400,
            max_fee_per_gas_wei: 500_000_000_000,
            fee_bump_after_ms: 30_000,
        }
    }
}

impl Section for Chain {
    const NAME: &'static str = "chain";

    fn check(&self, check: &mut Check<'_>) {
        if self.rpc_urls.is_empty() {
            check.refuse("rpc_urls", "[]", "is empty".to_owned(), "give at least one http:// URL".to_owned());
        }
        for (index, url) in self.rpc_urls.iter().enumerate() {
            check.url(&format!("rpc_urls[{index}]"), url, &["http", "https"]);
        }
        if let Some(chain_id) = self.chain_id {
            check.between("chain_id", chain_id, 1, u64::MAX);
        }
        if let Finality::Depth(depth) = self.finality {
            check.between("finality", depth, 0, 100_000);
        }
        check.between("poll_ms", self.poll_ms, 10, 600_000);
        check.between("rpc_timeout_ms", self.rpc_timeout_ms, 100, 600_000);
        check.between("max_log_blocks", self.max_log_blocks, 1, 100_000);
        check.between("max_snapshot_age_ms", self.max_snapshot_age_ms, 1_000, 86_400_000);
        check.between("withdrawal_delay_s", self.withdrawal_delay_s, 1, 30 * 86_400);
        check.between("withdrawal_window_s", self.withdrawal_window_s, 1, 30 * 86_400);
        check.between("max_fee_per_gas_wei", self.max_fee_per_gas_wei, 1, u64::MAX);
        check.between("fee_bump_after_ms", self.fee_bump_after_ms, 100, 3_600_000);
    }
}

impl<'de> Deserialize<'de> for Finality {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FinalityVisitor)
    }
}

struct FinalityVisitor;

impl de::Visitor<'_> for FinalityVisitor {
    type Value = Finality;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"finalized\" or a number of blocks")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Finality, E> {
        match text {
            "finalized" => Ok(Finality::Finalized),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, depth: u64) -> Result<Finality, E> {
        Ok(Finality::Depth(depth))
    }

    fn visit_i64<E: de::Error>(self, depth: i64) -> Result<Finality, E> {
        u64::try_from(depth)
            .map(Finality::Depth)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(depth), &self))
    }
}
