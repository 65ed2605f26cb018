//! Which models this node computes: every one that is registered and whose artifact is in the artifacts folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use dividend_chain::B256;
use dividend_engine::embedding::{Embedder, EmbedderOptions};
use dividend_engine::packed::KvType;
use dividend_engine::{BackendKind, Engine, EngineOptions, PrefixSharing};
use dividend_gateway::{Backend, Backends, EmbedderBackend, EngineBackend};
use dividend_registry::{ModelId, ModelView, Snapshot, artifact};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::artifacts::{self, Kind};
use crate::failure::Failure;

/// A file that could not be loaded.
struct Refused {
    /// When it was last written.
    written: Option<SystemTime>,
    /// Whether the model's first parent served: an adapter that came before its base is tried again.
    over_base: bool,
    reason: String,
}

/// Loads models and keeps them in step with the chain.
pub(super) struct Models {
    folder: PathBuf,
    options: EngineOptions,
    /// The language models that serve, for the adapters over them.
    engines: HashMap<ModelId, Engine>,
    /// Artifacts that could not be loaded: tried again when they change.
    refused: HashMap<PathBuf, Refused>,
}

impl Models {
    /// Models from the files in `folder`.
    pub(super) fn new(folder: PathBuf, settings: &dividend_config::Engine) -> Self {
        let options = engine_options(settings);
        Self { folder, options, engines: HashMap::new(), refused: HashMap::new() }
    }

    /// Follows the snapshots until `ended`. A model is loaded beside those that serve and then switched in.
    pub(super) async fn keep(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        backends: Arc<Backends>,
        ended: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                changed = snapshots.changed() => if changed.is_err() { return },
            }
            let snapshot = snapshots.borrow_and_update().clone();
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.load(&snapshot, &backends) => {}
            }
        }
    }

    /// Loads every registered model whose file is there and which is not yet served, in the order of registration.
    pub(super) async fn load(&mut self, snapshot: &Snapshot, backends: &Backends) {
        let served = backends.models();
        let mut missing: Vec<_> = snapshot.models().filter(|model| !served.contains(&model.id)).collect();
        missing.sort_by_key(|model| model.registered_at);
        for model in missing {
            let Some(artifact) = artifacts::find(&self.folder, model.artifact_digest) else { continue };
            let Ok(metadata) = artifact.metadata() else { continue };
            let written = metadata.modified().ok();
            let over_base =
                model.parents.first().is_some_and(|parent| self.engines.contains_key(&parent.model));
            let same = |refused: &Refused| (refused.written, refused.over_base) == (written, over_base);
            if self.refused.get(&artifact).is_some_and(same) {
                continue;
            }
            match self.load_one(model, artifact.clone()).await {
                Ok(backend) => backends.insert(model.id, backend),
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::error!(model = %model.id, "cannot be served: {reason}");
                    self.refused.insert(artifact, Refused { written, over_base, reason });
                }
            }
        }
    }

    /// Refuses to start a node that has model files and can serve none of them.
    ///
    /// # Errors
    /// A [`Failure`] that says why of each file.
    pub(super) fn check_any_loaded(&self, backends: &Backends) -> anyhow::Result<()> {
        if self.refused.is_empty() || !backends.models().is_empty() {
            return Ok(());
        }
        let mut reasons: Vec<_> = self
            .refused
            .iter()
            .map(|(file, refused)| format!("{}: {}", file.display(), refused.reason))
            .collect();
        reasons.sort();
        let message = format!("no registered model can be loaded: {}", reasons.join("; "));
        Err(Failure::new(message, "put sound files of supported models in their place, or remove them")
            .into())
    }

    async fn load_one(&mut self, model: &ModelView, artifact: PathBuf) -> anyhow::Result<Arc<dyn Backend>> {
        let (options, digest, name) = (self.options.clone(), model.artifact_digest, model.id.to_string());
        let base = model.parents.first().and_then(|parent| self.engines.get(&parent.model)).cloned();
        tracing::info!(model = %model.id, "loading");
        let loaded =
            tokio::task::spawn_blocking(move || load(&artifact, digest, options, base, name)).await??;
        Ok(match loaded {
            Loaded::Engine(engine) => {
                self.engines.insert(model.id, engine.clone());
                Arc::new(EngineBackend::new(engine))
            }
            Loaded::Adapter(engine, name) => Arc::new(EngineBackend::with_adapter(engine, name)),
            Loaded::Embedder(embedder) => Arc::new(EmbedderBackend::new(embedder)),
        })
    }
}

/// A model that is ready.
enum Loaded {
    Engine(Engine),
    /// One of the engine's adapters, by its name.
    Adapter(Engine, String),
    Embedder(Embedder),
}

/// Loads what is at `artifact`, after a look at its digest. `base` is what an adapter of the given `name` is laid over.
fn load(
    artifact: &Path,
    digest: B256,
    options: EngineOptions,
    base: Option<Engine>,
    name: String,
) -> anyhow::Result<Loaded> {
    check_digest(artifact, digest)?;
    match Kind::of(artifact)? {
        Kind::Gguf => Ok(Loaded::Engine(Engine::load(artifact, options)?)),
        Kind::Embedder => {
            let options = EmbedderOptions {
                queue: options.queue.max(1),
                // Requests are computed in turn, whoever asks: none may hold up the others for long.
                max_request_tokens: 16_384,
                ..EmbedderOptions::default()
            };
            Ok(Loaded::Embedder(Embedder::load(artifact, options)?))
        }
        Kind::Adapter => {
            let base =
                base.context("it is an adapter, and its first parent is no model that is served here")?;
            base.adapters().load(&name, artifact)?;
            Ok(Loaded::Adapter(base, name))
        }
    }
}

fn engine_options(settings: &dividend_config::Engine) -> EngineOptions {
    let target = Duration::from_millis(settings.inter_token_target_ms);
    EngineOptions {
        backend: match settings.backend {
            dividend_config::EngineBackend::Packed => BackendKind::Packed,
            dividend_config::EngineBackend::Candle => BackendKind::Candle,
        },
        threads: settings.threads as usize,
        kv_tokens: usize::try_from(settings.kv_tokens).unwrap_or(usize::MAX),
        kv_bytes: settings.kv_bytes,
        kv_type: match settings.kv_type {
            dividend_config::KvType::F16 => KvType::F16,
            dividend_config::KvType::F32 => KvType::F32,
        },
        prefix_sharing: match settings.prefix_sharing {
            dividend_config::PrefixSharing::All => PrefixSharing::All,
            dividend_config::PrefixSharing::Payer => PrefixSharing::Tenant,
            dividend_config::PrefixSharing::Off => PrefixSharing::Off,
        },
        adapter_bytes: usize::try_from(settings.adapter_bytes).unwrap_or(usize::MAX),
        max_sequences: settings.max_sequences as usize,
        queue: settings.queue_calls as usize,
        prefill_chunk: settings.prefill_chunk_tokens as usize,
        inter_token_target: (!target.is_zero()).then_some(target),
        context_cap: Some(settings.max_context_tokens as usize),
    }
}

/// A file that is not what was registered would earn money for somebody else's work.
fn check_digest(file: &Path, digest: B256) -> anyhow::Result<()> {
    let found = artifact::digest(file)?;
    if found == digest {
        return Ok(());
    }
    Err(anyhow::anyhow!("its SHA-256 is {found}, but {digest} is registered; fetch the file again"))
        .with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_what_was_registered_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let digest = artifact::digest(file.path()).unwrap();
        check_digest(file.path(), digest).unwrap();
        let refused = format!("{:#}", check_digest(file.path(), B256::ZERO).unwrap_err());
        assert!(refused.contains(file.path().to_str().unwrap()) && refused.contains(&digest.to_string()));
    }
}
