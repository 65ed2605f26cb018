//! The chain as commands reach it: endpoints, contracts, keys and the books of their transactions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dividend_chain::{Deployment, Follower, Key, Rpc, Sender};
use dividend_config::Chain;
use dividend_registry::Snapshot;

use crate::failure::OrFail;
use crate::home::Home;

/// A verified deployment.
pub(crate) struct Access {
    /// The endpoints.
    pub(crate) rpc: Rpc,
    /// The contracts.
    pub(crate) deployment: Deployment,
    home: Home,
    settings: Chain,
}

impl Access {
    /// Reads where the contracts are and checks that the chain has them.
    pub(crate) async fn open(home: &Home, settings: &Chain) -> anyhow::Result<Self> {
        let deployment = load(home, settings)?;
        let rpc = Rpc::connect(settings)?;
        check_chain_id(&rpc, settings).await?;
        deployment.verify(&rpc).await?;
        Ok(Self { rpc, deployment, home: home.clone(), settings: settings.clone() })
    }

    /// The sender of the account whose key is in the file `key`.
    pub(crate) async fn sender(&self, key: &Path) -> anyhow::Result<Sender> {
        let remedy =
            "name the account's key file; on a local chain `dividend faucet --key FILE` makes one with money";
        let key = Key::load(key).or_fail("nothing can be signed", remedy)?;
        Ok(open_sender(&self.home, &self.rpc, key, &self.settings).await?)
    }

    /// The chain as it is now, read from the deployment on.
    pub(crate) async fn snapshot(&self) -> anyhow::Result<Arc<Snapshot>> {
        let mut follower = Follower::open(self.rpc.clone(), &self.deployment, None, &self.settings)?;
        let snapshots = dividend_registry::follow(&mut follower, &self.deployment);
        follower.poll().await?;
        Ok(snapshots.borrow().clone())
    }
}

/// Opens the book of an account's transactions. All books are in one folder, so that no account ever has two.
pub(crate) async fn open_sender(
    home: &Home,
    rpc: &Rpc,
    key: Key,
    settings: &Chain,
) -> dividend_chain::Result<Sender> {
    Sender::open(rpc.clone(), key, &home.path("settle"), settings).await
}

/// Where the contracts are, by the settings or the home.
pub(crate) fn load(home: &Home, settings: &Chain) -> anyhow::Result<Deployment> {
    let remedy = "start a stack with `dividend up`, deploy with `dividend deploy`, or set chain.deployment";
    Deployment::load(&deployment_file(home, settings)).or_fail("no contracts are known", remedy)
}

/// The file that says where the contracts are.
pub(crate) fn deployment_file(home: &Home, settings: &Chain) -> PathBuf {
    settings.deployment.as_ref().map_or_else(|| home.path("deployment.json"), |path| home.path(path))
}

/// Refuses an endpoint of another chain than the settings name.
pub(crate) async fn check_chain_id(rpc: &Rpc, settings: &Chain) -> anyhow::Result<()> {
    let Some(expected) = settings.chain_id else { return Ok(()) };
    let found = rpc.chain_id().await?;
    if found == expected {
        return Ok(());
    }
    let what = format!("chain.chain_id = {expected}, but {} has chain {found}", settings.rpc_urls.join(", "));
    Err(crate::failure::Failure::usage(what, "correct chain.chain_id or chain.rpc_urls").into())
}
