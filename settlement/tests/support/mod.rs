//! A real chain with the contracts, two models, payers with channels, and seals made by hand.

#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test cannot go on without its surroundings")]

pub mod books;
pub mod seals;

use std::path::PathBuf;
use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, keccak256};
use dividend_chain::bindings::{IDollar, ILineageRegistry, IPaymentChannels, IUsageLedger};
use dividend_chain::eip712::Voucher;
use dividend_chain::testing::{Anvil, Deployed};
use dividend_chain::{At, Deployment, Intent, Key, Rpc, Sender};
use dividend_config::{Chain, Finality, Settlement};
use dividend_meter::ManualClock;
use dividend_settlement::settler::{Operator, Probe};
use dividend_settlement::{OnChain, Paths, Settler};
use tempfile::TempDir;

use books::Mining;

/// Blocks on top of a final one.
pub const DEPTH: u64 = 2;
/// A window's end in the tests, unix milliseconds: near the chain's clock, which is the machine's.
pub const FAR_EXPIRY_S: u64 = 4_000_000_000;
/// What the tests' clock shows.
pub const NOW_MS: u64 = 1_800_000_000_000;

/// A model as the tests register it.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub id: B256,
    pub royalty_ppm: u32,
}

/// A payer with an open channel.
pub struct Payer {
    pub key: Key,
    pub channel: B256,
}

pub struct World {
    pub anvil: Arc<Anvil>,
    pub deployment: Deployment,
    pub operator: Key,
    pub owner: Sender,
    /// 12 % royalty, contributors `payees[0]` (70 %) and `payees[1]` (30 %).
    pub base: Model,
    /// 33.3333 % royalty, inherits 40 % from `base`, contributor `payees[2]`.
    pub child: Model,
    pub payees: [Address; 3],
    chain_home: TempDir,
}

impl World {
    pub async fn start() -> Self {
        let Deployed { sender, deployment, home, anvil } = Deployed::start().await.unwrap();
        let operator = anvil.rich_key();
        let payees = [0x11, 0x22, 0x33].map(Address::repeat_byte);
        let owner_key = Key::from_bytes(keccak256("owner")).unwrap();
        anvil.fund(owner_key.address()).await.unwrap();
        drop(sender);
        let owner = Sender::open(anvil.rpc(), owner_key, home.path(), &settings(&anvil)).await.unwrap();
        let empty = Model { id: B256::ZERO, royalty_ppm: 0 };
        let anvil = Arc::new(anvil);
        let mut world =
            Self { anvil, deployment, operator, owner, base: empty, child: empty, payees, chain_home: home };
        world.base =
            world.register("base", 120_000, &[(payees[0], 700_000), (payees[1], 300_000)], None).await;
        let parent = Some((world.base.id, 400_000));
        world.child = world.register("child", 333_333, &[(payees[2], 1_000_000)], parent).await;
        world
    }

    pub fn rpc(&self) -> Rpc {
        self.anvil.rpc()
    }

    async fn register(
        &self,
        name: &str,
        royalty_ppm: u32,
        slots: &[(Address, u32)],
        parent: Option<(B256, u32)>,
    ) -> Model {
        let registry = self.deployment.contracts.lineage_registry;
        let (digest, salt) = (keccak256(name), keccak256("salt"));
        let commitment =
            ILineageRegistry::commitmentOfCall { sender: self.owner.address(), artifactDigest: digest, salt };
        let commitment = self.rpc().call(registry, &commitment).await.unwrap();
        self.own(format!("commit/{name}"), registry, &ILineageRegistry::commitCall { commitment }).await;
        let input = ILineageRegistry::NodeInput {
            parents: parent
                .map(|(node, _)| ILineageRegistry::Parent { node, weightPpm: 1_000_000 })
                .into_iter()
                .collect(),
            inheritPpm: parent.map_or(0, |(_, inherit)| inherit),
            slots: slots
                .iter()
                .map(|(payee, share)| ILineageRegistry::Slot { payee: *payee, sharePpm: *share })
                .collect(),
            royaltyPpm: royalty_ppm,
            minPriceIn: 1,
            minPriceOut: 1,
            floorPpm: 0,
            artifactDigest: digest,
            uri: String::new(),
            kind: if parent.is_some() { ILineageRegistry::Kind::Fork } else { ILineageRegistry::Kind::Base },
            track: B256::ZERO,
        };
        self.own(format!("register/{name}"), registry, &ILineageRegistry::registerCall { input, salt }).await;
        let id = ILineageRegistry::nodeIdCall { artifactDigest: digest };
        Model { id: self.rpc().call(registry, &id).await.unwrap(), royalty_ppm }
    }

    /// Sends a call of the owner's account.
    pub async fn own<C: alloy::sol_types::SolCall>(&self, id: String, to: Address, call: &C) {
        self.owner.send(Intent::call(id, to, call)).await.unwrap();
    }

    /// Gives the owner test dollars and lets `spender` take them.
    async fn mint(&self, what: &str, spender: Address, units: u128) {
        let amount = U256::from(units);
        let mint = IDollar::mintCall { to: self.owner.address(), amount };
        self.own(format!("mint/{what}"), self.deployment.token, &mint).await;
        let approve = IDollar::approveCall { spender, value: amount };
        self.own(format!("approve/{what}"), self.deployment.token, &approve).await;
    }

    /// Adds to the operator's escrow.
    pub async fn top_up(&self, what: &str, units: u128) {
        let ledger = self.deployment.contracts.usage_ledger;
        self.mint(what, ledger, units).await;
        let call = IUsageLedger::topUpCall { fund: IUsageLedger::Fund::Escrow, amount: units };
        self.own(format!("escrow/{what}"), ledger, &call).await;
        self.anvil.mine(DEPTH).await.unwrap();
    }

    /// Opens the channel of `name` with a deposit.
    pub async fn open_channel(&self, name: &str, deposit_units: u128) -> Payer {
        let channels = self.deployment.contracts.payment_channels;
        let key = Key::from_bytes(keccak256(name)).unwrap();
        self.mint(name, channels, deposit_units).await;
        let config = IPaymentChannels::Config {
            payer: self.owner.address(),
            signer: key.address(),
            salt: keccak256(name),
        };
        let id = IPaymentChannels::channelIdCall { config: config.clone() };
        let channel = self.rpc().call(channels, &id).await.unwrap();
        self.own(
            format!("open/{name}"),
            channels,
            &IPaymentChannels::openCall { config, amount: deposit_units },
        )
        .await;
        self.anvil.mine(DEPTH).await.unwrap();
        Payer { key, channel }
    }

    /// Adds to a channel's deposit.
    pub async fn deposit(&self, what: &str, payer: &Payer, units: u128) {
        let channels = self.deployment.contracts.payment_channels;
        self.mint(what, channels, units).await;
        let call = IPaymentChannels::depositCall { id: payer.channel, amount: units };
        self.own(format!("deposit/{what}"), channels, &call).await;
        self.anvil.mine(DEPTH).await.unwrap();
    }

    /// A payer's signed voucher.
    pub fn voucher(&self, payer: &Payer, model: Model, max_pico: u128) -> (Voucher, [u8; 65]) {
        let voucher =
            Voucher { channel: payer.channel, lane: model.id, maxCumulative: max_pico, expiry: FAR_EXPIRY_S };
        let digest = self.deployment.channels_domain().digest(&voucher);
        let signature = payer.key.sign(digest).unwrap();
        (voucher, signature)
    }

    /// Transactions that the operator has sent.
    pub async fn operator_nonce(&self) -> u64 {
        let nonce: U256 =
            self.rpc().request("eth_getTransactionCount", (self.operator.address(), "latest")).await.unwrap();
        nonce.to()
    }

    pub async fn height(&self) -> u64 {
        self.rpc().head(At::Latest).await.unwrap().unwrap().number
    }

    /// Remembers the chain's state.
    pub async fn snapshot(&self) -> U256 {
        self.rpc().request("evm_snapshot", ()).await.unwrap()
    }

    /// Goes back to a remembered state, which is remembered no longer.
    pub async fn go_back(&self, snapshot: U256) {
        let done: bool = self.rpc().request("evm_revert", (snapshot,)).await.unwrap();
        assert!(done, "anvil knows the snapshot");
    }
}

/// The settler's folders: seals in, ledger and claims out, and the operator's book of transactions.
pub struct Home {
    pub dir: TempDir,
    pub paths: Paths,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of_home(dir.path());
        std::fs::create_dir_all(&paths.seals).unwrap();
        Self { dir, paths }
    }

    pub fn claims(&self, window: u64) -> PathBuf {
        self.paths.claims.join(format!("{window}.json"))
    }

    /// A settler on the real chain, as a fresh process would open it.
    pub async fn settler(&self, world: &World) -> Settler<Mining> {
        let books = Mining { chain: self.on_chain(world).await, anvil: world.anvil.clone() };
        Settler::open(self.paths.clone(), books, operator(world, eager()), clock()).unwrap()
    }

    pub async fn probed(&self, world: &World, probe: Arc<dyn Probe>) -> Settler<Mining> {
        self.settler(world).await.with_probe(probe)
    }

    pub async fn on_chain(&self, world: &World) -> OnChain {
        let book = self.dir.path().join("sender");
        std::fs::create_dir_all(&book).unwrap();
        let key = world.operator.clone();
        let sender = Sender::open(world.rpc(), key, &book, &settings(&world.anvil)).await.unwrap();
        OnChain::new(world.deployment.clone(), Arc::new(sender), Finality::Depth(DEPTH))
    }
}

pub fn operator(world: &World, settings: Settlement) -> Operator {
    Operator { key: world.operator.clone(), deployment: meter_deployment(&world.deployment), settings }
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW_MS))
}

/// Short polls; thresholds as shipped.
pub fn eager() -> Settlement {
    Settlement { poll_ms: 10, ..Settlement::default() }
}

pub fn settings(anvil: &Anvil) -> Chain {
    Chain { finality: Finality::Depth(DEPTH), ..anvil.settings() }
}

pub fn meter_deployment(deployment: &Deployment) -> dividend_meter::Deployment {
    dividend_meter::Deployment {
        chain_id: deployment.chain_id,
        usage_ledger: deployment.contracts.usage_ledger,
        payment_channels: deployment.contracts.payment_channels,
    }
}
