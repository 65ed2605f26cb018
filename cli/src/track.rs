//! `dividend track`: a line of champions behind one public name.

use std::path::PathBuf;

use dividend_chain::{Address, Sender};
use dividend_registry::{Charter, ModelId, TrackId, TrackView};
use serde::Serialize;

use crate::access::Access;
use crate::args::Global;
use crate::failure::Failure;
use crate::home::Home;
use crate::output::answer;
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a track with its immutable charter.
    Create(Create),
    /// Make a base model, registered for the track, its champion.
    Champion(Champion),
    /// Show a track and its champions.
    Show {
        /// The track's name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// 1 to 64 of a-z, 0-9 and '-'.
    name: String,
    /// Account that may sponsor competitions; may be repeated. The owner if neither this nor --open is given.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "open")]
    sponsor: Vec<Address>,
    /// Let anyone sponsor competitions.
    #[arg(long)]
    open: bool,
    /// The most that a competition's rule may give a winner of its royalty, in ppm.
    #[arg(long, value_name = "PPM", default_value_t = 1_000_000)]
    royalty_cap_ppm: u32,
    /// The least part of a winner's royalty that goes to the champion it beat, in ppm.
    #[arg(long, value_name = "PPM", default_value_t = 500_000)]
    champion_inherit_ppm: u32,
    /// The verifiers' part of every royalty, in ppm; needs --verifiers.
    #[arg(long, value_name = "PPM", default_value_t = 0)]
    verifier_ppm: u32,
    /// Who is paid the verifiers' part.
    #[arg(long, value_name = "ADDRESS")]
    verifiers: Option<Address>,
    /// Contract that may lock the track and switch its champion.
    #[arg(long, value_name = "ADDRESS")]
    competitions: Option<Address>,
    /// Key of the owner; the home's `keys/owner.key` by default.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Champion {
    /// The track's name.
    name: String,
    /// The model.
    model: ModelId,
    /// Key of the owner; the home's `keys/owner.key` by default.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Serialize)]
struct Created {
    track: TrackId,
    name: String,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self.command {
            Command::Create(create) => create.run(global),
            Command::Champion(champion) => champion.run(global),
            Command::Show { name } => show(global, &name),
        }
    }
}

impl Create {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let track = as_owner(global, self.key.clone(), async |owner, registry| {
            let charter = self.charter(owner.address());
            dividend_registry::create_track(owner, registry, &self.name, charter).await
        })?;
        answer(global, &Created { track, name: self.name }, |created| {
            format!("{} {}", created.name, created.track)
        })
    }

    fn charter(&self, owner: Address) -> Charter {
        let sponsors = match (self.open, self.sponsor.as_slice()) {
            (true, _) => Vec::new(),
            (false, []) => vec![owner],
            (false, sponsors) => sponsors.to_vec(),
        };
        Charter {
            sponsors,
            open: self.open,
            royaltyCapPpm: self.royalty_cap_ppm,
            championInheritPpm: self.champion_inherit_ppm,
            verifierPpm: self.verifier_ppm,
            competitions: self.competitions.unwrap_or(Address::ZERO),
            verifiers: self.verifiers.unwrap_or(Address::ZERO),
        }
    }
}

impl Champion {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let track = TrackId::of_name(&self.name);
        as_owner(global, self.key, async |owner, registry| {
            dividend_registry::set_champion(owner, registry, track, self.model).await
        })?;
        show(global, &self.name)
    }
}

fn show(global: &Global, name: &str) -> anyhow::Result<()> {
    let home = global.home()?;
    let settings = settings::of_running(global, &home)?;
    let snapshot =
        runtime::on_this_thread(async { Access::open(&home, &settings.chain).await?.snapshot().await })?;
    let track = snapshot.track(name).ok_or_else(|| {
        let known: Vec<&str> = snapshot.tracks().map(|track| track.name.as_str()).collect();
        let message = format!("there is no track {name:?}; there are: {}", known.join(", "));
        Failure::new(message, "create it: dividend track create NAME")
    })?;
    answer(global, &**track, text)
}

fn text(track: &TrackView) -> String {
    let head = format!(
        "{} {}\nowner            {}\nchampion inherit {} ppm\nverifiers        {} ppm\n",
        track.name, track.id, track.owner, track.champion_inherit_ppm, track.verifier_ppm
    );
    let champions = track.champions.iter().enumerate();
    champions.fold(head, |text, (index, model)| format!("{text}{}@{} {model}\n", track.name, index + 1))
}

/// Does something with the owner's account and the registry.
fn as_owner<T>(
    global: &Global,
    key: Option<PathBuf>,
    work: impl AsyncFnOnce(&Sender, Address) -> dividend_registry::Result<T>,
) -> anyhow::Result<T> {
    let home: Home = global.home()?;
    let settings = settings::of_running(global, &home)?;
    let key = key.unwrap_or_else(|| home.owner_key());
    runtime::on_this_thread(async {
        let access = Access::open(&home, &settings.chain).await?;
        let sender = access.sender(&key).await?;
        Ok(work(&sender, access.deployment.contracts.lineage_registry).await?)
    })
}
