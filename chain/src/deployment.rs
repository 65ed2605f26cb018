//! Where the contracts are, and proof that they are what they should be.

use std::path::Path;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::{SolCall, SolValue};
use serde::{Deserialize, Serialize};

use crate::bindings::{Artifact, IDollar, IPaymentChannels, IRoyaltyPool, IUsageLedger};
use crate::eip712::Domain;
use crate::{At, Error, Intent, Result, Rpc, Sender};

/// Gas limit of a deployment; what is not used is not paid. Each contract needs far less.
const DEPLOY_GAS: u64 = 8_000_000;
/// Of the token: a base unit is a micro-dollar.
const DOLLAR_DECIMALS: u8 = 6;

/// The contracts of one deployment, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Contracts {
    /// Lineage, terms and tracks.
    pub lineage_registry: Address,
    /// Royalties, pulled by contributors.
    pub royalty_pool: Address,
    /// Payers' channels.
    pub payment_channels: Address,
    /// The operator's channel.
    pub usage_ledger: Address,
}

impl Contracts {
    /// Names and addresses.
    pub fn named(&self) -> [(&'static str, Address); 4] {
        [
            ("LineageRegistry", self.lineage_registry),
            ("RoyaltyPool", self.royalty_pool),
            ("PaymentChannels", self.payment_channels),
            ("UsageLedger", self.usage_ledger),
        ]
    }
}

/// A deployment, as kept in `deployment.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of block 0: two chains with one id differ in it.
    pub genesis_hash: B256,
    /// First block that may hold an event of the contracts.
    pub block: u64,
    /// Whom payment channels pay, and who posts seals.
    pub operator: Address,
    /// The 6-decimals ERC-20 that everything is paid in.
    pub token: Address,
    /// Seconds between asking for a withdrawal from a channel and taking it.
    pub withdrawal_delay_s: u64,
    /// Seconds for which it can then be taken.
    pub withdrawal_window_s: u64,
    /// The contracts.
    pub contracts: Contracts,
}

/// What a deployment can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeployParams {
    /// Whom payment channels pay, and who posts seals.
    pub operator: Address,
    /// A 6-decimals ERC-20 that exists; a test dollar is deployed if not given.
    pub token: Option<Address>,
    /// Seconds between asking for a withdrawal and taking it.
    pub withdrawal_delay_s: u64,
    /// Seconds for which it can then be taken.
    pub withdrawal_window_s: u64,
}

impl Deployment {
    /// Reads `deployment.json`.
    ///
    /// # Errors
    /// [`Error::DeploymentFile`] if it is missing or malformed.
    pub fn load(path: &Path) -> Result<Self> {
        let bad = |problem: String| Error::DeploymentFile { path: path.into(), problem };
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        serde_json::from_str(&text).map_err(|e| bad(e.to_string()))
    }

    /// Writes `deployment.json` by atomic rename.
    ///
    /// # Errors
    /// [`Error::DeploymentFile`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let bad = |problem: String| Error::DeploymentFile { path: path.into(), problem };
        let text = serde_json::to_string_pretty(self).map_err(|e| bad(e.to_string()))?;
        let draft = path.with_extension("json.new");
        std::fs::write(&draft, text + "\n").map_err(|e| bad(e.to_string()))?;
        std::fs::rename(&draft, path).map_err(|e| bad(e.to_string()))
    }

    /// Deploys the contracts. Safe to repeat after a kill: what was deployed is found again by its intent.
    ///
    /// # Errors
    /// [`Error::BadToken`], before anything is sent; otherwise as [`Sender::send`] and [`Deployment::verify`].
    pub async fn deploy(sender: &Sender, params: &DeployParams) -> Result<Self> {
        let rpc = sender.rpc();
        if let Some(token) = params.token {
            check_token(rpc, token).await?;
        }
        let genesis = rpc.head(At::Number(0)).await?.ok_or_else(|| rpc.missing("genesis block"))?;
        let first = sender.nonce_for(FIRST_INTENT)?;
        let at = |step: u64| sender.address().create(first + step);
        let contracts = Contracts {
            lineage_registry: at(0),
            royalty_pool: at(1),
            payment_channels: at(2),
            usage_ledger: at(3),
        };
        let token = params.token.unwrap_or_else(|| at(4));
        let intents = deployment_intents(params, token, &contracts);
        let ids: Vec<String> = intents.iter().map(|intent| intent.id.clone()).collect();
        sender.submit(intents).await?;
        let mut block = u64::MAX;
        for id in &ids {
            block = block.min(sender.mined(id).await?.block_number);
        }
        let chain_id = rpc.chain_id().await?;
        let deployment = Self {
            chain_id,
            genesis_hash: genesis.hash,
            block,
            operator: params.operator,
            token,
            withdrawal_delay_s: params.withdrawal_delay_s,
            withdrawal_window_s: params.withdrawal_window_s,
            contracts,
        };
        deployment.verify(rpc).await?;
        Ok(deployment)
    }

    /// Checks that the node serves the chain that the contracts were deployed on, that each has code, and that each is
    /// wired to the others and to the operator.
    ///
    /// # Errors
    /// [`Error::WrongChain`], [`Error::WrongContract`], and as [`Rpc::request`].
    pub async fn verify(&self, rpc: &Rpc) -> Result<()> {
        self.verify_chain(rpc).await?;
        for (name, address) in self.contracts.named().into_iter().chain([("token", self.token)]) {
            if rpc.code(address).await?.is_empty() {
                return Err(wrong(name, address, "there is no contract".into()));
            }
        }
        let Contracts { lineage_registry, royalty_pool, payment_channels, usage_ledger } = self.contracts;
        let (token, operator) = (self.token, self.operator);
        let (delay, window) = (self.withdrawal_delay_s, self.withdrawal_window_s);
        let pool = Wiring { rpc, name: "RoyaltyPool", address: royalty_pool };
        pool.expect::<IRoyaltyPool::tokenCall>("token", token).await?;
        pool.expect::<IRoyaltyPool::registryCall>("registry", lineage_registry).await?;
        pool.expect::<IRoyaltyPool::channelsCall>("channels", payment_channels).await?;
        pool.expect::<IRoyaltyPool::ledgerCall>("ledger", usage_ledger).await?;
        let channels = Wiring { rpc, name: "PaymentChannels", address: payment_channels };
        channels.expect::<IPaymentChannels::tokenCall>("token", token).await?;
        channels.expect::<IPaymentChannels::registryCall>("registry", lineage_registry).await?;
        channels.expect::<IPaymentChannels::poolCall>("pool", royalty_pool).await?;
        channels.expect::<IPaymentChannels::operatorCall>("operator", operator).await?;
        channels.expect::<IPaymentChannels::withdrawalDelayCall>("withdrawal delay", delay).await?;
        channels.expect::<IPaymentChannels::withdrawalWindowCall>("withdrawal window", window).await?;
        let ledger = Wiring { rpc, name: "UsageLedger", address: usage_ledger };
        ledger.expect::<IUsageLedger::tokenCall>("token", token).await?;
        ledger.expect::<IUsageLedger::registryCall>("registry", lineage_registry).await?;
        ledger.expect::<IUsageLedger::poolCall>("pool", royalty_pool).await?;
        ledger.expect::<IUsageLedger::operatorCall>("operator", operator).await
    }

    async fn verify_chain(&self, rpc: &Rpc) -> Result<()> {
        let wrong = |what, expected: String, found: String| Err(Error::WrongChain { what, expected, found });
        let chain_id = rpc.chain_id().await?;
        if chain_id != self.chain_id {
            return wrong("chain id", self.chain_id.to_string(), chain_id.to_string());
        }
        let genesis = rpc.head(At::Number(0)).await?.map(|head| head.hash);
        if genesis != Some(self.genesis_hash) {
            let found = genesis.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
            return wrong("genesis block", self.genesis_hash.to_string(), found);
        }
        Ok(())
    }

    /// The domain of vouchers and claims.
    pub fn channels_domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, verifying_contract: self.contracts.payment_channels }
    }

    /// The domain of receipts.
    pub fn ledger_domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, verifying_contract: self.contracts.usage_ledger }
    }

    /// The contracts whose events are followed.
    pub(crate) fn logging_contracts(&self) -> Vec<Address> {
        self.contracts.named().into_iter().map(|(_, address)| address).collect()
    }
}

/// The first transaction of a deployment, from whose nonce all addresses follow.
const FIRST_INTENT: &str = "deploy/LineageRegistry";

/// Refuses a token that is none, or counts in other units than the contracts: they are bound to it for ever.
async fn check_token(rpc: &Rpc, token: Address) -> Result<()> {
    let problem = match rpc.call(token, &IDollar::decimalsCall {}).await {
        Ok(DOLLAR_DECIMALS) => return Ok(()),
        Ok(decimals) => format!("has {decimals} decimals"),
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => format!("does not say how many decimals it has ({error})"),
    };
    Err(Error::BadToken { token, problem })
}

fn deployment_intents(params: &DeployParams, token: Address, contracts: &Contracts) -> Vec<Intent> {
    let Contracts { lineage_registry, royalty_pool, payment_channels, usage_ledger } = *contracts;
    let (delay, window) = (params.withdrawal_delay_s, params.withdrawal_window_s);
    let payable = (token, lineage_registry, royalty_pool, params.operator, delay, window).abi_encode_params();
    let pool = (token, lineage_registry, payment_channels, usage_ledger).abi_encode_params();
    let mut intents = vec![
        creation(FIRST_INTENT, Artifact::lineage_registry(), &[]),
        creation("deploy/RoyaltyPool", Artifact::royalty_pool(), &pool),
        creation("deploy/PaymentChannels", Artifact::payment_channels(), &payable),
        creation("deploy/UsageLedger", Artifact::usage_ledger(), &payable),
    ];
    if params.token.is_none() {
        intents.push(creation("deploy/TestDollar", Artifact::test_dollar(), &[]));
    }
    intents
}

fn creation(id: &str, artifact: &Artifact, arguments: &[u8]) -> Intent {
    let input = Bytes::from([artifact.bytecode(), arguments].concat());
    Intent { id: id.into(), to: None, input, value_wei: Default::default(), gas: Some(DEPLOY_GAS) }
}

/// One contract whose immutables are compared.
struct Wiring<'a> {
    rpc: &'a Rpc,
    name: &'static str,
    address: Address,
}

impl Wiring<'_> {
    async fn expect<C>(&self, what: &str, expected: C::Return) -> Result<()>
    where
        C: SolCall<Return: PartialEq + std::fmt::Display> + Default,
    {
        let found = match self.rpc.call(self.address, &C::default()).await {
            Ok(found) => found,
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => return Err(wrong(self.name, self.address, format!("has no {what}: {error}"))),
        };
        match found == expected {
            true => Ok(()),
            false => {
                let problem = format!("its {what} is {found}, expected {expected}");
                Err(wrong(self.name, self.address, problem))
            }
        }
    }
}

fn wrong(name: &str, address: Address, problem: String) -> Error {
    Error::WrongContract { name: name.into(), address, problem }
}
