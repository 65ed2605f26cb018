//! What a model's owner does on the chain: register models, create tracks, switch champions.
//!
//! Each step is an intent named after its contents, so a command that was killed can be given again: it finishes what it
//! began and does nothing twice.

use std::time::Duration;

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::SolCall;
use dividend_chain::bindings::ILineageRegistry;
pub use dividend_chain::bindings::ILineageRegistry::Charter;
use dividend_chain::{At, Error as ChainError, Intent, Key, Mined, Sender};

use crate::{Error, ModelId, ModelManifest, Result, TrackId};

/// How often the chain is asked for the block after the commitment.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Registers a model by commit and, in a later block, reveal. A digest that is registered already is left alone.
///
/// # Errors
/// [`crate::Error::Chain`]: `Reverted` with the contract's reason, or as [`Sender::send`].
pub async fn register(
    sender: &Sender,
    key: &Key,
    registry: Address,
    manifest: &ModelManifest,
) -> Result<ModelId> {
    let rpc = sender.rpc();
    let artifact = manifest.artifact_digest;
    let id = rpc.call(registry, &ILineageRegistry::nodeIdCall { artifactDigest: artifact }).await?;
    if rpc.call(registry, &ILineageRegistry::existsCall { id }).await? {
        return Ok(ModelId::from(id));
    }
    let salt = salt(key, artifact)?;
    let of = ILineageRegistry::commitmentOfCall { sender: sender.address(), artifactDigest: artifact, salt };
    let commitment = rpc.call(registry, &of).await?;
    let committed = send(sender, registry, "commit", &ILineageRegistry::commitCall { commitment }).await?;
    let reveal = ILineageRegistry::registerCall { input: manifest.input(), salt };
    loop {
        match send(sender, registry, "register", &reveal).await {
            Ok(_) => return Ok(ModelId::from(id)),
            // Some nodes estimate on the newest block, in which a commitment cannot be used yet.
            Err(Error::Chain(ChainError::Reverted(reason))) if reason.starts_with("CommittedThisBlock") => {
                block_after(sender, committed.block_number).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Creates a track; the sender's own track of this name is left alone.
///
/// # Errors
/// As [`register`].
pub async fn create_track(
    sender: &Sender,
    registry: Address,
    name: &str,
    charter: Charter,
) -> Result<TrackId> {
    let id = TrackId::of_name(name);
    let known = sender.rpc().call(registry, &ILineageRegistry::trackCall { id: id.into() }).await;
    if known.is_ok_and(|track| track.owner == sender.address()) {
        return Ok(id);
    }
    let create = ILineageRegistry::createTrackCall { name: name.to_owned(), charter };
    send(sender, registry, "track", &create).await?;
    Ok(id)
}

/// Makes a model the champion of a track, unless it is.
///
/// # Errors
/// As [`register`].
pub async fn set_champion(sender: &Sender, registry: Address, track: TrackId, model: ModelId) -> Result<()> {
    let now = sender.rpc().call(registry, &ILineageRegistry::trackCall { id: track.into() }).await?;
    if now.champion == model.as_b256() {
        return Ok(());
    }
    let call = ILineageRegistry::setChampionCall { trackId: track.into(), id: model.into() };
    // A model can be champion again after another was: the number tells the two switches apart.
    send(sender, registry, &format!("champion/{}", now.champions + 1), &call).await?;
    Ok(())
}

/// Secret until the registration, and the same when it is repeated: nobody else can make this signature.
fn salt(key: &Key, artifact: B256) -> Result<B256> {
    let message = keccak256([b"dividend commitment salt".as_slice(), artifact.as_slice()].concat());
    Ok(keccak256(key.sign(message)?))
}

/// Sends a call under an id that names its contents. What reverted before, on the chain, is tried anew under the next
/// id: the reason may be gone.
async fn send<C: SolCall>(sender: &Sender, registry: Address, step: &str, call: &C) -> Result<Mined> {
    let digest = keccak256(call.abi_encode());
    let mut attempt = 0u32;
    loop {
        let id = format!("{step}/{digest}/{attempt}");
        let reverted = match sender.knows(&id)? {
            true => sender.mined(&id).await.is_err_and(|error| matches!(error, ChainError::Reverted(_))),
            false => false,
        };
        if !reverted {
            return Ok(sender.send(Intent::call(id, registry, call)).await?);
        }
        attempt += 1;
    }
}

/// Waits until the chain has a block above `number`.
async fn block_after(sender: &Sender, number: u64) -> Result<()> {
    let mut again = tokio::time::interval(ASK_EVERY);
    loop {
        again.tick().await;
        if sender.rpc().head(At::Latest).await?.is_some_and(|head| head.number > number) {
            return Ok(());
        }
    }
}
