//! What the meter's tests share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dividend_chain::eip712::Voucher;
use dividend_chain::{Address, B256, Key};
use dividend_meter::{
    CallOpening, Clock, Deployment, ManualClock, Meter, MeterError, MeterOptions, Operator, Payer,
    PriceVersion, Recovered,
};
use dividend_registry::ModelId;

/// Time at which the tests begin.
pub const START_MS: u64 = 1_800_000_000_000;

pub fn deployment() -> Deployment {
    Deployment {
        chain_id: 31337,
        usage_ledger: Address::repeat_byte(0xaa),
        payment_channels: Address::repeat_byte(0xbb),
    }
}

pub fn operator() -> Operator {
    Operator { key: Key::from_bytes(B256::repeat_byte(0x11)).unwrap(), deployment: deployment() }
}

/// Small segments, so that every test crosses their borders; a quick fold.
pub fn options() -> MeterOptions {
    MeterOptions {
        segment_bytes: 2_000,
        slots: 16,
        fold_interval: Duration::from_millis(5),
        sync_interval: Duration::from_millis(5),
        ..MeterOptions::default()
    }
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(START_MS))
}

pub fn try_open(dir: &Path, clock: Arc<dyn Clock>) -> Result<(Meter, Recovered), MeterError> {
    Meter::open(dir, options(), operator(), clock)
}

pub fn open(dir: &Path) -> (Meter, Recovered) {
    try_open(dir, clock()).unwrap()
}

pub fn key(index: u8) -> Payer {
    Payer::Key([index; 32])
}

pub fn channel(index: u8) -> Payer {
    Payer::Channel(B256::repeat_byte(index))
}

pub fn model(index: u8) -> ModelId {
    ModelId([index; 32])
}

/// A call at 3 pico-dollars per prompt token and 7 per output token.
pub fn opening(payer: Payer, model: ModelId) -> CallOpening {
    CallOpening {
        call: None,
        payer,
        model,
        block: 5,
        price: PriceVersion { version: 1, in_pico_per_token: 3, out_pico_per_token: 7 },
        prompt_tokens: 10,
        hold_pico: 1_000,
    }
}

pub fn voucher(channel: u8, lane: u8, max: u128) -> Voucher {
    Voucher {
        channel: B256::repeat_byte(channel),
        lane: B256::repeat_byte(lane),
        maxCumulative: max,
        expiry: START_MS / 1_000 + 86_400,
    }
}

/// Copies a directory as a crash leaves it: what was written, mapped or renamed so far.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The segment files of a journal, in order.
pub fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("journal")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
