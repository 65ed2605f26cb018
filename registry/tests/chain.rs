//! The registry against the deployed contracts: registering, following, reorganisations, and shares as the pool pays
//! them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, keccak256};
use dividend_chain::bindings::{IDollar, ILineageRegistry, IPaymentChannels, IRoyaltyPool, IUsageLedger};
use dividend_chain::testing::Deployed;
use dividend_chain::{Follower, Intent, Key, Sender};
use dividend_config::{Chain, Finality};
use dividend_registry::{Charter, ModelId, ModelManifest, Snapshot, register, shares, tree};
use tokio::sync::watch;

struct World {
    deployed: Deployed,
    key: Key,
    follower: Follower,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl World {
    async fn start(finality: u64) -> Self {
        let deployed = Deployed::start().await.unwrap();
        let settings = Chain { finality: Finality::Depth(finality), ..deployed.anvil.settings() };
        let mut follower =
            Follower::open(deployed.anvil.rpc(), &deployed.deployment, None, &settings).unwrap();
        let snapshots = dividend_registry::follow(&mut follower, &deployed.deployment);
        let key = deployed.anvil.rich_key();
        Self { deployed, key, follower, snapshots }
    }

    fn registry(&self) -> Address {
        self.deployed.deployment.contracts.lineage_registry
    }

    async fn register(&self, manifest: &ModelManifest) -> ModelId {
        register(&self.deployed.sender, &self.key, self.registry(), manifest).await.unwrap()
    }

    async fn send(&self, id: &str, to: Address, call: &impl alloy::sol_types::SolCall) {
        self.deployed.sender.send(Intent::call(id, to, call)).await.unwrap();
    }

    async fn snapshot(&mut self) -> Arc<Snapshot> {
        self.follower.poll().await.unwrap();
        self.snapshots.borrow().clone()
    }

    async fn rebuilt(&self) -> Arc<Snapshot> {
        let Deployed { anvil, deployment, .. } = &self.deployed;
        dividend_registry::rebuild(anvil.rpc(), deployment, &anvil.settings()).await.unwrap()
    }
}

fn manifest(name: &str, parents: &[(ModelId, u32)], payees: &[(Address, u32)]) -> ModelManifest {
    let mut text = format!(
        "name = \"{name}\"\nkind = \"{}\"\ninherit_ppm = {}\nroyalty_ppm = 200_000\n\
         [artifact]\ndigest = \"{}\"\n",
        if parents.is_empty() { "base" } else { "fork" },
        if parents.is_empty() { 0 } else { 400_000 },
        keccak256(name),
    );
    for (model, weight_ppm) in parents {
        text += &format!("[[parents]]\nmodel = \"{model}\"\nweight_ppm = {weight_ppm}\n");
    }
    for (payee, share_ppm) in payees {
        text += &format!("[[slots]]\npayee = \"{payee}\"\nshare_ppm = {share_ppm}\n");
    }
    ModelManifest::parse(&text, Path::new("model.toml")).unwrap()
}

fn account(n: u8) -> Address {
    Address::repeat_byte(n)
}

/// A base, two improvements of it, and a model that joins them.
async fn diamond(world: &World) -> [ModelId; 4] {
    let base = world.register(&manifest("base", &[], &[(account(1), 700_000), (account(2), 300_000)])).await;
    let left = world.register(&manifest("left", &[(base, 1_000_000)], &[(account(3), 1_000_000)])).await;
    let right = world.register(&manifest("right", &[(base, 1_000_000)], &[(account(4), 1_000_000)])).await;
    let parents = [(left, 333_333), (right, 666_667)];
    let join = world.register(&manifest("join", &parents, &[(account(5), 1_000_000)])).await;
    [base, left, right, join]
}

#[tokio::test]
async fn a_diamond_is_registered_once_and_seen_as_the_contract_has_it() {
    let mut world = World::start(64).await;
    let [base, left, right, join] = diamond(&world).await;
    let height = world.deployed.anvil.height().await.unwrap();
    assert_eq!(diamond(&world).await, [base, left, right, join]);
    assert_eq!(world.deployed.anvil.height().await.unwrap(), height, "registering again sends nothing");
    let snapshot = world.snapshot().await;
    let model = snapshot.model(join).unwrap();
    let call = ILineageRegistry::tableCall { model: join.into() };
    let table = world.deployed.anvil.rpc().call(world.registry(), &call).await.unwrap();
    let theirs: Vec<_> = table.iter().map(|r| (ModelId::from(r.node), r.ppm, r.floorPpm)).collect();
    let mine: Vec<_> = model.rows.iter().map(|r| (r.node, r.share_ppm, r.floor_ppm)).collect();
    assert_eq!(mine, theirs);
    assert_eq!(mine[0], (join, 600_000, 0));
    let computed = manifest("join", &[(left, 333_333), (right, 666_667)], &[(account(5), 1_000_000)]);
    assert_eq!(computed.table(&snapshot, join).unwrap(), model.rows);
    let tree = tree(&snapshot, join).unwrap();
    assert_eq!(tree.parents.iter().map(|p| p.model).collect::<Vec<_>>(), [left, right]);
    assert_eq!(tree.parents[1].parents[0].model, base);
    assert_eq!(tree.share_ppm, 600_000);
}

fn charter() -> Charter {
    Charter {
        sponsors: Vec::new(),
        open: true,
        royaltyCapPpm: 500_000,
        championInheritPpm: 500_000,
        verifierPpm: 30_000,
        competitions: Address::ZERO,
        verifiers: account(9),
    }
}

fn on_track(name: &str) -> ModelManifest {
    ModelManifest { track: Some("triage".into()), ..manifest(name, &[], &[(account(1), 1_000_000)]) }
}

#[tokio::test]
async fn tracks_champions_and_pots_are_resolved_by_name() {
    let mut world = World::start(64).await;
    let (registry, sender) = (world.registry(), &world.deployed.sender);
    let track = dividend_registry::create_track(sender, registry, "triage", charter()).await.unwrap();
    assert_eq!(dividend_registry::create_track(sender, registry, "triage", charter()).await.unwrap(), track);
    let mut models = Vec::new();
    for name in ["one", "two"] {
        let id = world.register(&on_track(name)).await;
        for _ in 0..2 {
            dividend_registry::set_champion(sender, registry, track, id).await.unwrap();
        }
        models.push(id);
    }
    let snapshot = world.snapshot().await;
    assert_eq!(snapshot.resolve("triage").unwrap().id, models[1]);
    assert_eq!(snapshot.resolve("triage@1").unwrap().id, models[0]);
    assert_eq!(snapshot.resolve("triage@2").unwrap().id, models[1]);
    assert_eq!(snapshot.resolve(&models[0].to_string()).unwrap().id, models[0]);
    for unknown in ["triage@0", "triage@3", "triage@", "other", "other@1", "0x12", ""] {
        assert!(snapshot.resolve(unknown).is_err(), "{unknown}");
    }
    let split = shares::split(&snapshot, models[0], 1_000_000).unwrap();
    let paid: Vec<_> = split.iter().map(|share| (share.payee, share.units)).collect();
    assert_eq!(paid, [(account(1), 970_000), (account(9), 30_000)]);
    let rows = &snapshot.model(models[0]).unwrap().rows;
    assert_eq!(&on_track("one").table(&snapshot, models[0]).unwrap(), rows);
}

#[tokio::test]
async fn a_snapshot_lives_through_reorganisations_as_one_rebuilt_from_genesis() {
    let mut world = World::start(64).await;
    let base = world.register(&manifest("base", &[], &[(account(1), 1_000_000)])).await;
    let mut hashes = Vec::new();
    for depth in [1u64, 3, 8, 20] {
        let payees = [(account(2), 1_000_000)];
        let children = [0, 1, 2].map(|n| manifest(&format!("{depth}/{n}"), &[(base, 1_000_000)], &payees));
        for child in &children {
            world.register(child).await;
        }
        world.deployed.anvil.mine(depth.saturating_sub(4)).await.unwrap();
        let before = world.snapshot().await;
        assert_eq!(before.state_hash(), world.rebuilt().await.state_hash());
        world.deployed.anvil.rollback(depth).await.unwrap();
        world.deployed.anvil.advance(3).await.unwrap();
        let after = world.snapshot().await;
        assert!(after.models().count() < before.models().count());
        let rebuilt = world.rebuilt().await;
        assert_eq!((after.block(), after.state_hash()), (rebuilt.block(), rebuilt.state_hash()));
        hashes.push(after.state_hash());
        // What the reorganisation undid is sent again, as the sender of a running system does.
        world.deployed.sender.tick().await.unwrap();
        for child in &children {
            world.register(child).await;
        }
        let healed = world.snapshot().await;
        assert_eq!(healed.models().count(), before.models().count());
        assert_eq!(healed.state_hash(), world.rebuilt().await.state_hash());
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 4, "different states have different hashes");
}

#[tokio::test]
async fn a_deposit_counts_when_final_and_a_withdrawal_request_at_once() {
    let mut world = World::start(5).await;
    let payer = Key::generate();
    let sender = world.deployed.sender_for(&payer, 1_000).await.unwrap();
    let channel = open_channel(&world, &sender, 600).await;
    world.deployed.anvil.mine(1).await.unwrap();
    let fresh = world.snapshot().await;
    assert_eq!(fresh.channel(channel).unwrap().deposit_units, 0);
    world.deployed.anvil.mine(5).await.unwrap();
    let settled = world.snapshot().await.channel(channel).unwrap().clone();
    assert_eq!((settled.deposit_units, settled.payer, settled.free_units()), (600, payer.address(), 600));
    assert_eq!(settled.operator, world.deployed.sender.address());
    assert_eq!(settled.withdraw_delay_s, 60);
    let channels = world.deployed.deployment.contracts.payment_channels;
    let ask = IPaymentChannels::requestWithdrawalCall { id: channel, amount: 250 };
    sender.send(Intent::call("ask", channels, &ask)).await.unwrap();
    let asked = world.snapshot().await;
    assert_eq!(asked.channel(channel).unwrap().free_units(), 350);
    world.deployed.anvil.advance(61).await.unwrap();
    let take = IPaymentChannels::finalizeWithdrawalCall { id: channel };
    sender.send(Intent::call("take", channels, &take)).await.unwrap();
    let taken = world.snapshot().await.channel(channel).unwrap().clone();
    assert_eq!((taken.deposit_units, taken.free_units(), taken.withdrawal), (350, 350, None));
}

async fn open_channel(world: &World, sender: &Sender, amount: u128) -> B256 {
    let contracts = world.deployed.deployment.contracts;
    let approve = IDollar::approveCall { spender: contracts.payment_channels, value: U256::MAX };
    sender.send(Intent::call("approve", world.deployed.deployment.token, &approve)).await.unwrap();
    let address = sender.address();
    let config = IPaymentChannels::Config { payer: address, signer: address, salt: B256::ZERO };
    let open = IPaymentChannels::openCall { config: config.clone(), amount };
    sender.send(Intent::call("open", contracts.payment_channels, &open)).await.unwrap();
    let id = IPaymentChannels::channelIdCall { config };
    world.deployed.anvil.rpc().call(contracts.payment_channels, &id).await.unwrap()
}

/// Posts prepaid charges of 777,777.777777 µ$ for a model, with an escrow that cannot pay all of the royalty.
async fn post_seal(world: &World, model: ModelId) {
    let ledger = world.deployed.deployment.contracts.usage_ledger;
    let token = world.deployed.deployment.token;
    let me = world.deployed.sender.address();
    world.send("mint", token, &IDollar::mintCall { to: me, amount: U256::from(10_000_000u64) }).await;
    world.send("approve", token, &IDollar::approveCall { spender: ledger, value: U256::MAX }).await;
    top_up(world, "escrow", 100_000).await;
    let row = IUsageLedger::SealRow {
        model: model.into(),
        prepaidRoot: B256::repeat_byte(7),
        prepaidSum: 777_777_777_777,
        channelRoot: B256::ZERO,
        channelSum: 0,
    };
    let journal = B256::repeat_byte(1);
    let post = IUsageLedger::postSealCall { journal, window: 0, rows: vec![row], last: true };
    world.send("seal", ledger, &post).await;
}

async fn top_up(world: &World, id: &str, amount: u128) {
    let call = IUsageLedger::topUpCall { fund: IUsageLedger::Fund::Escrow, amount };
    world.send(id, world.deployed.deployment.contracts.usage_ledger, &call).await;
}

#[tokio::test]
async fn shares_equal_what_the_pool_credits_and_claims_are_seen() {
    let mut world = World::start(64).await;
    let [base, _, _, join] = diamond(&world).await;
    post_seal(&world, join).await;
    let contracts = world.deployed.deployment.contracts;
    let rpc = world.deployed.anvil.rpc();
    let snapshot = world.snapshot().await;
    // C = 777_777 µ$, R = 155_555 µ$, of which the escrow had 100_000.
    assert_eq!(snapshot.revenue_units(join), 100_000);
    let escrow = snapshot.escrow();
    assert_eq!((escrow.balance_units, escrow.total_owed_units()), (0, 55_555));
    let owed = IUsageLedger::owedCall { model: join.into() };
    assert_eq!(rpc.call(contracts.usage_ledger, &owed).await.unwrap(), U256::from(55_555));
    let shares = shares::split(&snapshot, join, snapshot.revenue_units(join)).unwrap();
    assert_eq!(shares.len(), 5);
    for share in &shares {
        let slot = U256::from(share.slot);
        let credited = IRoyaltyPool::creditedCall { model: join.into(), node: share.node.into(), slot };
        let theirs = rpc.call(contracts.royalty_pool, &credited).await.unwrap();
        assert_eq!(U256::from(share.units), theirs, "{share:?}");
    }
    let mine = shares.iter().find(|share| share.node == base && share.slot == 1).unwrap();
    let claim = IRoyaltyPool::claimCall { model: join.into(), node: base.into(), slot: U256::from(1) };
    world.send("claim", contracts.royalty_pool, &claim).await;
    top_up(&world, "more", 60_000).await;
    let settle = IUsageLedger::settleOwedCall { model: join.into() };
    world.send("settle", contracts.usage_ledger, &settle).await;
    let snapshot = world.snapshot().await;
    assert_eq!(snapshot.claimed_units(join, base, 1), mine.units);
    assert_eq!(snapshot.revenue_units(join), 155_555);
    assert_eq!((snapshot.escrow().balance_units, snapshot.escrow().total_owed_units()), (4_445, 0));
    assert_eq!(snapshot.state_hash(), world.rebuilt().await.state_hash());
}
