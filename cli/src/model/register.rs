//! `dividend model register`.

use std::path::PathBuf;
use std::sync::Arc;

use dividend_chain::{B256, Key};
use dividend_registry::{ModelId, ModelManifest, ModelView, Snapshot};
use serde::Serialize;

use crate::access::Access;
use crate::args::Global;
use crate::failure::Failure;
use crate::output::{answer, say};
use crate::{artifacts, runtime, settings};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// TOML file that describes the model.
    file: PathBuf,
    /// Key of the account that registers it; the home's `keys/owner.key` by default.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// The model that has this artifact.
fn known(snapshot: &Snapshot, digest: B256) -> Option<Arc<ModelView>> {
    snapshot.models().find(|model| model.artifact_digest == digest).cloned()
}

/// An artifact is registered once: what is asked for must be what is there.
fn refuse_other_terms(manifest: &ModelManifest, known: &ModelView, key: &Key) -> anyhow::Result<()> {
    let mut differences = manifest.differences(known);
    if known.owner != key.address() {
        differences.push(format!("owner is {}, here {}", known.owner, key.address()));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the artifact is registered already as {}, and terms never change: {}",
        known.id,
        differences.join("; ")
    );
    Err(Failure::new(message, "use that model, or register another artifact").into())
}

#[derive(Serialize)]
struct Registered {
    model: ModelId,
    name: String,
    digest: B256,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let manifest = ModelManifest::load(&self.file)?;
        let key_file = self.key.unwrap_or_else(|| home.owner_key());
        let key = Key::load(&key_file)?;
        let digest = manifest.artifact_digest;
        let folder = artifacts::folder(&home, &settings.engine);
        let model = runtime::on_this_thread(async {
            let access = Access::open(&home, &settings.chain).await?;
            let snapshot = access.snapshot().await?;
            if let Some(artifact) = &manifest.artifact_path {
                let parent = manifest.parents.first().and_then(|parent| snapshot.model(parent.model));
                let base = parent.and_then(|parent| artifacts::find(&folder, parent.artifact_digest));
                artifacts::check(artifact, base.as_deref())?;
                artifacts::keep(&folder, artifact, digest)?;
            }
            if let Some(known) = known(&snapshot, digest) {
                return refuse_other_terms(&manifest, &known, &key).map(|()| known.id);
            }
            let sender = access.sender(&key_file).await?;
            say(format!("registering {} as {}", manifest.name, key.address()));
            let registry = access.deployment.contracts.lineage_registry;
            Ok(dividend_registry::register(&sender, &key, registry, &manifest).await?)
        })?;
        answer(global, &Registered { model, name: manifest.name, digest }, |registered| {
            format!("model  {}\ndigest {}", registered.model, registered.digest)
        })
    }
}
