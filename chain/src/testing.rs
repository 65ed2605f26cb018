//! A disposable anvil, with contracts deployed on it, for tests of this crate and of those above it (feature `testing`).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alloy::primitives::{B256, U256};
use dividend_config::{Chain, Finality};
use serde_json::json;
use tempfile::TempDir;

use crate::bindings::IDollar;
use crate::{Address, At, DeployParams, Deployment, Error, Intent, Key, Result, Rpc, Sender};

/// Private key of anvil's first account, which is rich, by its published test mnemonic.
const RICH_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// What [`Anvil::fund`] gives: 1,000 coins.
const FUNDS_WEI: u128 = 1_000 * 10u128.pow(18);

/// A local chain that ends with this value. It mines a block for each transaction, and by request.
#[derive(Debug)]
pub struct Anvil {
    process: Child,
    url: String,
    rpc: Rpc,
}

impl Anvil {
    /// Starts anvil on a free port.
    ///
    /// # Panics
    /// If the binary is not installed or does not start; tests cannot go on then.
    pub fn start() -> Self {
        let binary = binary();
        let mut process = Command::new(&binary)
            .args(["--port", "0", "--slots-in-an-epoch", "1", "--enable-tx-gas-limit"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", binary.display()));
        let stdout = process.stdout.take().expect("stdout was piped");
        let mut lines = BufReader::new(stdout).lines();
        let listening = lines.by_ref().map_while(std::result::Result::ok).find_map(|line| {
            line.strip_prefix("Listening on ").map(|address| format!("http://{}", address.trim()))
        });
        let url = listening.expect("anvil says where it listens");
        // Anvil logs every request; somebody must read, or it blocks.
        std::thread::spawn(move || lines.for_each(drop));
        let rpc = Rpc::connect(&settings_for(&url)).expect("a loopback URL is valid");
        Self { process, url, rpc }
    }

    /// JSON-RPC URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection.
    pub fn rpc(&self) -> Rpc {
        self.rpc.clone()
    }

    /// Settings for this chain: quick polls, final at depth 64 unless changed, so that tests can reorganise.
    pub fn settings(&self) -> Chain {
        settings_for(&self.url)
    }

    /// The key of an account that can pay for gas.
    pub fn rich_key(&self) -> Key {
        let scalar: B256 = RICH_KEY.parse().expect("a valid constant");
        Key::from_bytes(scalar).expect("a valid constant")
    }

    /// Gives an account 1,000 coins for gas.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn fund(&self, account: Address) -> Result<()> {
        self.rpc.request("anvil_setBalance", (account, U256::from(FUNDS_WEI))).await
    }

    /// Mines empty blocks.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn mine(&self, blocks: u64) -> Result<()> {
        self.rpc.request("anvil_mine", (U256::from(blocks),)).await
    }

    /// Whether each transaction is mined at once; if not, [`Anvil::mine`] does it.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn automine(&self, on: bool) -> Result<()> {
        self.rpc.request("evm_setAutomine", (on,)).await
    }

    /// Replaces the newest blocks by as many empty ones.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn reorg(&self, depth: u64) -> Result<()> {
        self.rpc.request("anvil_reorg", json!([depth, []])).await
    }

    /// Drops the newest blocks.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn rollback(&self, depth: u64) -> Result<()> {
        self.rpc.request("anvil_rollback", (depth,)).await
    }

    /// Moves the chain's clock forward and mines a block.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn advance(&self, seconds: u64) -> Result<()> {
        let _: serde_json::Value = self.rpc.request("evm_increaseTime", (U256::from(seconds),)).await?;
        self.mine(1).await
    }

    /// Height of the newest block.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn height(&self) -> Result<u64> {
        Ok(self.rpc.head(At::Latest).await?.ok_or_else(|| self.rpc.missing("latest block"))?.number)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // Errors mean that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An anvil with the contracts on it, and a sender for the operator.
pub struct Deployed {
    /// The operator's sender.
    pub sender: Sender,
    /// The contracts.
    pub deployment: Deployment,
    /// A folder for stores; it goes with this value.
    pub home: TempDir,
    /// The chain.
    pub anvil: Anvil,
}

impl Deployed {
    /// Starts anvil and deploys everything with short withdrawal delays (60 s); the operator is anvil's rich account.
    ///
    /// # Errors
    /// As [`Deployment::deploy`].
    pub async fn start() -> Result<Self> {
        let anvil = Anvil::start();
        let home = tempfile::tempdir()
            .map_err(|e| Error::Store { path: std::env::temp_dir(), problem: e.to_string() })?;
        let sender = Sender::open(anvil.rpc(), anvil.rich_key(), home.path(), &anvil.settings()).await?;
        let params = DeployParams {
            operator: sender.address(),
            token: None,
            withdrawal_delay_s: 60,
            withdrawal_window_s: 60,
        };
        let deployment = Deployment::deploy(&sender, &params).await?;
        Ok(Self { sender, deployment, home, anvil })
    }

    /// A sender for an account of its own, with coins for gas and test dollars.
    ///
    /// # Errors
    /// As [`Sender::open`] and [`Sender::send`].
    pub async fn sender_for(&self, key: &Key, dollars_units: u128) -> Result<Sender> {
        self.anvil.fund(key.address()).await?;
        let mint = IDollar::mintCall { to: key.address(), amount: U256::from(dollars_units) };
        let id = format!("mint/{}/{}", key.address(), self.sender.nonce_for("")?);
        self.sender.send(Intent::call(id, self.deployment.token, &mint)).await?;
        Sender::open(self.anvil.rpc(), key.clone(), self.home.path(), &self.anvil.settings()).await
    }
}

fn settings_for(url: &str) -> Chain {
    Chain {
        rpc_urls: vec![url.to_owned()],
        finality: Finality::Depth(64),
        poll_ms: 20,
        rpc_timeout_ms: 10_000,
        ..Chain::default()
    }
}

/// Anvil as npm installs it under `contracts/`.
fn binary() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/node_modules/@foundry-rs");
    let path = root.join(format!("anvil-linux-{}/bin/anvil", arch()));
    assert!(path.exists(), "{} is missing: run `npm ci` in contracts/", path.display());
    path
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
