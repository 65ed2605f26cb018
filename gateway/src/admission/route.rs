//! Which model serves, at what price, and on what.

use std::sync::Arc;

use dividend_meter::PriceVersion;
use dividend_registry::{ModelView, Snapshot};

use super::Admitted;
use crate::backend::{Backend, PrepareError, Prepared, Query, Served};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::settings::Settings;

/// Longest model name that is looked up or repeated.
const MAX_NAME_BYTES: usize = 128;

/// A call with its model fixed.
pub(crate) struct Routed {
    pub(super) admitted: Admitted,
    pub(super) target: Target,
    pub(super) settings: Arc<Settings>,
}

/// What serves a name at a moment.
pub(crate) struct Target {
    pub snapshot: Arc<Snapshot>,
    pub model: Arc<ModelView>,
    pub served: Served,
    pub price: PriceVersion,
}

impl Target {
    /// Looks a name up: a track, `track@n`, or a node id.
    ///
    /// # Errors
    /// [`ApiError::SnapshotStale`], [`ApiError::UnknownModel`] for a name that the registry does not know or that no
    /// backend here serves.
    pub(crate) fn find(gateway: &Gateway, settings: &Settings, name: &str) -> Result<Self, ApiError> {
        let snapshot = gateway.fresh_snapshot()?;
        let unknown = || ApiError::UnknownModel { model: name.chars().take(MAX_NAME_BYTES).collect() };
        if name.len() > MAX_NAME_BYTES {
            return Err(unknown());
        }
        let model = snapshot.resolve(name).map_err(|_| unknown())?.clone();
        let served = gateway.backends.get(&model.id).ok_or_else(unknown)?;
        let track = name.split('@').next().filter(|track| snapshot.track(track).is_some());
        let price = price(settings, &model, track, gateway.clock.unix_ms() / 1_000);
        Ok(Self { snapshot, model, served, price })
    }
}

/// The operator's price now, never below what the model's owner registered.
pub(crate) fn price(settings: &Settings, model: &ModelView, track: Option<&str>, now_s: u64) -> PriceVersion {
    let quote = settings.prices.quote(&model.id.to_string(), track, now_s);
    PriceVersion {
        version: quote.version,
        in_pico_per_token: quote.price.input_pico_per_token.max(model.min_price.input_pico_per_token),
        out_pico_per_token: quote.price.output_pico_per_token.max(model.min_price.output_pico_per_token),
    }
}

impl Admitted {
    /// Fixes the call's model.
    ///
    /// # Errors
    /// As [`Target::find`], and [`ApiError::Unavailable`] if the model's backend has failed.
    pub(crate) fn route(self, gateway: &Gateway, name: &str) -> Result<Routed, ApiError> {
        let settings = gateway.settings.load_full();
        let target = Target::find(gateway, &settings, name)?;
        if !target.served.backend.is_healthy() {
            let reason = "its backend has failed; the operator has to restart the gateway".to_owned();
            return Err(ApiError::Unavailable { model: name.to_owned(), reason });
        }
        Ok(Routed { admitted: self, target, settings })
    }
}

impl Routed {
    /// Encodes the prompt with the model's own tokenizer, so that its length is exact, and checks the parameters.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] with the template's, tokenizer's or engine's reason.
    pub(crate) async fn prepare(&self, query: Query) -> Result<Prepared, ApiError> {
        let backend = self.target.served.backend.clone();
        if backend.prepares_quickly(&query) {
            return prepare(&*backend, query);
        }
        let preparing = tokio::task::spawn_blocking(move || prepare(&*backend, query));
        preparing.await.map_err(ApiError::internal)?
    }
}

fn prepare(backend: &dyn Backend, query: Query) -> Result<Prepared, ApiError> {
    let param = query.prompt.param();
    let form = query.form.as_ref().map_or("response_format", |form| form.param);
    backend.prepare(query).map_err(|error| match error {
        PrepareError::Prompt(error) => ApiError::invalid(param, format!("cannot be encoded: {error}")),
        PrepareError::Parameter(error) => error.into(),
        PrepareError::Endpoint { .. } => ApiError::unsupported("model", error.to_string()),
        PrepareError::Tools(_) => ApiError::invalid("tools", error.to_string()),
        PrepareError::Adapter(error) => {
            tracing::error!(%error, "an adapter cannot be read");
            let reason = "its adapter cannot be read".to_owned();
            ApiError::Unavailable { model: "asked for".to_owned(), reason }
        }
        PrepareError::Form(error) if error.is_retryable() => {
            ApiError::Unavailable { model: "asked for".to_owned(), reason: error.to_string() }
        }
        PrepareError::Form(error) => ApiError::invalid(form, format!("cannot be honoured: {error}")),
    })
}
