//! What a local stack needs on its chain before it can serve: contracts, money, a model and a track. Every step finds
//! what an earlier run has done, so it is run at every start.

pub(crate) mod demo_key;
pub(crate) mod money;
mod settings;

use std::path::Path;

use dividend_chain::{Address, B256, DeployParams, Deployment, Key, Rpc, Sender};
use dividend_config::Settings;
use dividend_registry::{Charter, Kind, ModelManifest, PriceFloor, Slot};

pub(crate) use settings::write_local_settings;

use crate::access::{check_chain_id, deployment_file, open_sender};
use crate::artifacts;
use crate::home::{self, Home};
use crate::output::say;

/// The track that the local stack's base model serves.
pub(crate) const TRACK: &str = "smollm2";
/// Royalty of the local base model: three tenths of the price.
const ROYALTY_PPM: u32 = 300_000;
const ALL_PPM: u32 = 1_000_000;

/// A name that no other intent has.
pub(crate) fn random_name() -> anyhow::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(hex::encode(random))
}

/// Makes the secrets of a home that has none.
pub(crate) fn secrets(home: &Home) -> anyhow::Result<()> {
    let token = home.admin_token();
    if !token.exists() {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        home::write_secret(&token, &hex::encode(random))?;
    }
    Ok(())
}

/// Brings the chain to where `serve` can start: contracts deployed, operator funded, the base model registered and
/// serving its track. Answers the deployment.
pub(crate) async fn chain(
    home: &Home,
    settings: &Settings,
    model: Option<&Path>,
) -> anyhow::Result<Deployment> {
    let rpc = Rpc::connect(&settings.chain)?;
    check_chain_id(&rpc, &settings.chain).await?;
    let digest = base_artifact(home, settings, model).await?;
    let operator = Key::load_or_generate(&home.operator_key())?;
    let owner = Key::load_or_generate(&home.owner_key())?;
    for key in [&operator, &owner] {
        money::provide_gas(&rpc, key.address()).await?;
    }
    let operator = open_sender(home, &rpc, operator, &settings.chain).await?;
    let deployment = deploy(home, settings, &operator, None).await?;
    let registry = deployment.contracts.lineage_registry;
    let sender = open_sender(home, &rpc, owner.clone(), &settings.chain).await?;
    tokio::try_join!(
        money::provide_dollars(&operator, &deployment),
        register_base(&sender, &owner, registry, digest)
    )?;
    Ok(deployment)
}

/// The digest of the base model: the one of an earlier run, or of the file that is found now.
async fn base_artifact(home: &Home, settings: &Settings, model: Option<&Path>) -> anyhow::Result<B256> {
    let noted = home.path("base.json");
    let folder = artifacts::folder(home, &settings.engine);
    let known = home::read_json::<B256>(&noted)?.filter(|digest| artifacts::find(&folder, *digest).is_some());
    if let (Some(digest), None) = (known, model) {
        return Ok(digest);
    }
    say("reading the base model");
    let named = model.map(Path::to_owned);
    let adopted = tokio::task::spawn_blocking(move || {
        let source = artifacts::base_model(named.as_deref())?;
        artifacts::adopt(&folder, &source)
    });
    let digest = adopted.await??;
    home::write_json(&noted, &digest)?;
    Ok(digest)
}

/// The contracts: those of an earlier run, or new ones over `token`, or over a test dollar if none is given.
pub(crate) async fn deploy(
    home: &Home,
    settings: &Settings,
    sender: &Sender,
    token: Option<Address>,
) -> anyhow::Result<Deployment> {
    let file = deployment_file(home, &settings.chain);
    if file.exists() {
        let deployment = Deployment::load(&file)?;
        deployment.verify(sender.rpc()).await?;
        return Ok(deployment);
    }
    say("deploying contracts");
    let params = DeployParams {
        operator: sender.address(),
        token,
        withdrawal_delay_s: settings.chain.withdrawal_delay_s,
        withdrawal_window_s: settings.chain.withdrawal_window_s,
    };
    let deployment = Deployment::deploy(sender, &params).await?;
    deployment.save(&file)?;
    Ok(deployment)
}

async fn register_base(sender: &Sender, owner: &Key, registry: Address, digest: B256) -> anyhow::Result<()> {
    let charter = Charter {
        sponsors: vec![owner.address()],
        open: false,
        royaltyCapPpm: ALL_PPM,
        championInheritPpm: 500_000,
        verifierPpm: 0,
        competitions: Address::ZERO,
        verifiers: Address::ZERO,
    };
    let base = ModelManifest {
        name: TRACK.to_owned(),
        track: Some(TRACK.to_owned()),
        kind: Kind::Base,
        parents: Vec::new(),
        inherit_ppm: 0,
        slots: vec![Slot { payee: owner.address(), share_ppm: ALL_PPM }],
        royalty_ppm: ROYALTY_PPM,
        min_price: PriceFloor::default(),
        floor_ppm: 0,
        artifact_digest: digest,
        artifact_path: None,
        uri: String::new(),
    };
    say("registering the base model");
    let track = dividend_registry::create_track(sender, registry, TRACK, charter).await?;
    let model = dividend_registry::register(sender, owner, registry, &base).await?;
    Ok(dividend_registry::set_champion(sender, registry, track, model).await?)
}
