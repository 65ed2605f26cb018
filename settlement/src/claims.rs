//! The operator's Claims: signed after a seal, published so that anybody can redeem if the operator vanishes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use alloy::primitives::B256;
use dividend_chain::Key;
use dividend_chain::eip712::{Claim, Domain, Voucher};
use serde::{Deserialize, Serialize};

use crate::records::{LaneTotal, RedeemRow, StoredClaim, WindowRecord};
use crate::{Error, Result};

/// `claims/<window>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsFile {
    /// The journal.
    pub journal: B256,
    /// The window within it.
    pub window: u64,
    /// Digest of the seal that the claims rest on.
    pub seal_digest: B256,
    /// Chain and contract that redeem them.
    pub domain: Domain,
    /// Voucher and claim of every lane that the seal names and that has a voucher.
    pub rows: Vec<RedeemRow>,
}

/// Signs the claims of a window: for each lane with a voucher, what it was served in all up to the window's end, never
/// above the voucher. Deterministic, so signing again gives the same bytes.
///
/// # Errors
/// [`Error::Chain`] if the key cannot sign.
pub fn sign(window: &WindowRecord, key: &Key, domain: &Domain) -> Result<Vec<RedeemRow>> {
    window
        .lanes
        .iter()
        .filter_map(|lane| sign_lane(lane, window.seal_digest, key, domain).transpose())
        .collect()
}

fn sign_lane(lane: &LaneTotal, seal_digest: B256, key: &Key, domain: &Domain) -> Result<Option<RedeemRow>> {
    let Some(voucher) = lane.voucher.clone() else { return Ok(None) };
    let cumulative_pico = lane.served_pico.min(voucher.max_pico);
    let claim = Claim {
        channel: lane.channel,
        lane: lane.model,
        cumulative: cumulative_pico,
        sealDigest: seal_digest,
    };
    let signature = key.sign(domain.digest(&claim))?.into();
    let claim = StoredClaim { cumulative_pico, seal_digest, signature };
    Ok(Some(RedeemRow { channel: lane.channel, model: lane.model, voucher, claim }))
}

impl RedeemRow {
    /// The payer's message.
    pub fn voucher_message(&self) -> Voucher {
        let RedeemRow { channel, model, voucher, .. } = self;
        Voucher { channel: *channel, lane: *model, maxCumulative: voucher.max_pico, expiry: voucher.expiry }
    }

    /// The operator's message.
    pub fn claim_message(&self) -> Claim {
        let RedeemRow { channel, model, claim, .. } = self;
        Claim {
            channel: *channel,
            lane: *model,
            cumulative: claim.cumulative_pico,
            sealDigest: claim.seal_digest,
        }
    }
}

/// Writes `<dir>/<window>.json` by atomic rename; writing it again changes nothing.
///
/// # Errors
/// [`Error::Store`].
pub fn publish(dir: &Path, window: &WindowRecord, domain: Domain) -> Result<()> {
    let file = ClaimsFile {
        journal: window.key.journal,
        window: window.key.window,
        seal_digest: window.seal_digest,
        domain,
        rows: window.claims.clone(),
    };
    let path = dir.join(format!("{}.json", window.key.window));
    let text = serde_json::to_vec_pretty(&file).map_err(|error| Error::store(&path, error))?;
    write_atomically(dir, &path, &text).map_err(|error| Error::store(&path, error))
}

/// Readers see the old file or the new one, and after a loss of power one of the two.
fn write_atomically(dir: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}
