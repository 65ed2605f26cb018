//! The meter's seals, read and checked.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolValue;
use dividend_meter::seal::{ModelSeal, PayerKind, VoucherSeal};
use dividend_meter::{Deployment, Seal};

use crate::records::{LaneRecord, LaneTotal, SealRow, StoredVoucher, WindowKey};
use crate::{Error, Result};

/// What settlement takes from a seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedWindow {
    /// Which window.
    pub key: WindowKey,
    /// Digest of the seal.
    pub digest: B256,
    /// Per model, in order of id.
    pub rows: Vec<SealRow>,
    /// The channel lanes that the window touched, in order of channel and model.
    pub lanes: Vec<TouchedLane>,
}

/// What a window adds to a channel lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedLane {
    /// The payer's channel.
    pub channel: B256,
    /// The model.
    pub model: B256,
    /// Charged in this window.
    pub charge_pico: u128,
    /// The lane's highest voucher in this journal.
    pub voucher: Option<StoredVoucher>,
}

/// The folder of seals.
#[derive(Clone, Debug)]
pub struct SealDir(PathBuf);

impl SealDir {
    /// The folder at `path`; it need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self(path.into())
    }

    /// The seal of a window, if it was written.
    ///
    /// # Errors
    /// [`Error::BadSeal`] if it is not a seal, if its digest is not its content's, or if it is of another deployment.
    pub fn read(&self, window: u64, deployment: &Deployment) -> Result<Option<SealedWindow>> {
        let path = self.0.join(format!("{window}.json"));
        let bad = |problem: String| Error::BadSeal { path: path.clone(), problem };
        let Some(seal) = read_file(&path)? else { return Ok(None) };
        if seal.window != window {
            return Err(bad(format!("holds window {}", seal.window)));
        }
        let digest = seal.compute_digest();
        if digest != seal.digest {
            return Err(bad(format!("says digest {}, but its content has {digest}", seal.digest)));
        }
        if seal.deployment != *deployment {
            return Err(bad(format!(
                "was sealed for {}, this process settles {deployment}",
                seal.deployment
            )));
        }
        Ok(Some(SealedWindow::from(seal)))
    }

    /// The journal of the lowest window in the folder, if there is any.
    ///
    /// # Errors
    /// [`Error::BadSeal`] or [`Error::Store`].
    pub fn journal(&self) -> Result<Option<B256>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::store(&self.0, error)),
        };
        let mut lowest: Option<u64> = None;
        for entry in entries {
            let name = entry.map_err(|error| Error::store(&self.0, error))?.file_name();
            let window = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            lowest = window.into_iter().chain(lowest).min();
        }
        let Some(lowest) = lowest else { return Ok(None) };
        Ok(read_file(&self.0.join(format!("{lowest}.json")))?.map(|seal| seal.journal))
    }
}

fn read_file(path: &Path) -> Result<Option<Seal>> {
    let bad = |problem: String| Error::BadSeal { path: path.into(), problem };
    match std::fs::read(path) {
        Ok(json) => {
            serde_json::from_slice(&json).map(Some).map_err(|error| bad(format!("is not a seal: {error}")))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(bad(error.to_string())),
    }
}

impl From<Seal> for SealedWindow {
    fn from(seal: Seal) -> Self {
        let mut lanes: BTreeMap<(B256, B256), TouchedLane> = BTreeMap::new();
        let empty = |(channel, model)| TouchedLane { channel, model, charge_pico: 0, voucher: None };
        for totals in seal.totals.iter().filter(|totals| totals.payer_kind == PayerKind::Channel) {
            let key = (totals.payer, totals.model.as_b256());
            let lane = lanes.entry(key).or_insert_with(|| empty(key));
            // Each (payer, model) has one row; should a file repeat one, the lane's total must not be lowered by it.
            lane.charge_pico = lane.charge_pico.saturating_add(totals.charge_pico);
        }
        for voucher in &seal.vouchers {
            let key = (voucher.channel, voucher.lane);
            lanes.entry(key).or_insert_with(|| empty(key)).voucher = Some(voucher.into());
        }
        let mut rows: Vec<SealRow> = seal.models.iter().map(SealRow::from).collect();
        rows.sort_by_key(|row| row.model);
        Self {
            key: WindowKey { journal: seal.journal, window: seal.window },
            digest: seal.digest,
            rows,
            lanes: lanes.into_values().collect(),
        }
    }
}

impl From<&ModelSeal> for SealRow {
    fn from(model: &ModelSeal) -> Self {
        Self {
            model: model.model.as_b256(),
            prepaid_root: model.prepaid_root,
            prepaid_pico: model.prepaid_sum_pico,
            channel_root: model.channel_root,
            channel_pico: model.channel_sum_pico,
        }
    }
}

impl From<&VoucherSeal> for StoredVoucher {
    fn from(voucher: &VoucherSeal) -> Self {
        let VoucherSeal { max_cumulative_pico, expiry, signature, .. } = voucher;
        Self { max_pico: *max_cumulative_pico, expiry: *expiry, signature: signature.clone() }
    }
}

impl TouchedLane {
    /// The lane after this window: total added, the higher voucher kept, a wait begun if nothing was waiting.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn added_to(&self, stored: Option<LaneRecord>, now_ms: u64) -> Result<LaneRecord> {
        let TouchedLane { channel, model, .. } = *self;
        let mut lane = stored.unwrap_or_else(|| LaneRecord::new(channel, model));
        let overflow =
            || Error::Overflow { what: format!("the lane of channel {channel} for model {model}") };
        lane.served_pico = lane.served_pico.checked_add(self.charge_pico).ok_or_else(overflow)?;
        if let Some(voucher) = &self.voucher {
            let worth = |voucher: &StoredVoucher| (voucher.max_pico, voucher.expiry);
            if lane.voucher.as_ref().is_none_or(|known| worth(known) < worth(voucher)) {
                lane.voucher = Some(voucher.clone());
            }
        }
        if lane.waiting_since_ms == 0 {
            lane.waiting_since_ms = now_ms;
        }
        Ok(lane)
    }
}

impl LaneRecord {
    fn new(channel: B256, model: B256) -> Self {
        Self {
            channel,
            model,
            served_pico: 0,
            voucher: None,
            claim: None,
            paid_units: 0,
            refused_pico: 0,
            waiting_since_ms: 0,
        }
    }

    /// The lane as of now, for the window that was just added.
    pub fn total(&self) -> LaneTotal {
        LaneTotal {
            channel: self.channel,
            model: self.model,
            served_pico: self.served_pico,
            voucher: self.voucher.clone(),
        }
    }
}

/// `keccak256(abi.encode(prepaidRoot, prepaidSum, channelRoot, channelSum))`, as UsageLedger keeps a posted row.
pub fn row_hash(row: &SealRow) -> B256 {
    keccak256((row.prepaid_root, row.prepaid_pico, row.channel_root, row.channel_pico).abi_encode())
}
