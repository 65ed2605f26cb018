//! The journal as JSON lines.

use std::io::Write;
use std::path::Path;

use alloy::primitives::{B256, hex};
use dividend_chain::eip712::Voucher;
use dividend_registry::ModelId;
use serde::Serialize;

use crate::journal::{OpenRecord, Reader, Record, VoucherRecord};
use crate::{CallId, CallRecord, CloseReason, MeterError};

/// A record as one JSON object. Amounts and token counts are integers, times unix milliseconds.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Open {
        call: CallId,
        window: u64,
        at_ms: u64,
        payer: String,
        model: ModelId,
        block: u64,
        price_version: u64,
        price_in_pico_per_token: u64,
        price_out_pico_per_token: u64,
        prompt_tokens: u32,
        hold_pico: u128,
    },
    Close {
        call: CallId,
        window: u64,
        at_ms: u64,
        payer: String,
        model: ModelId,
        price_version: u64,
        price_in_pico_per_token: u64,
        price_out_pico_per_token: u64,
        prompt_tokens: u32,
        completion_tokens: u32,
        charge_pico: u128,
        reason: CloseReason,
        salt: B256,
    },
    Voucher {
        window: u64,
        at_ms: u64,
        channel: B256,
        lane: B256,
        max_cumulative_pico: u128,
        expiry: u64,
        signature: String,
    },
    Seal {
        window: u64,
        at_ms: u64,
    },
}

/// Writes the journal in a meter's directory, which may be live, as one JSON object per record and line; of all windows,
/// or of one. An OPEN is of the window that was open then. Answers the number of lines; `None` if there is no journal.
///
/// # Errors
/// [`MeterError::Journal`] if the journal is damaged, [`MeterError::File`] if `out` fails.
pub fn export(dir: &Path, window: Option<u64>, out: &mut dyn Write) -> Result<Option<u64>, MeterError> {
    let Some(mut reader) = Reader::open(dir)? else { return Ok(None) };
    let failed = |error: std::io::Error| MeterError::file(Path::new("export"))(error);
    let (mut open_window, mut lines) = (0, 0);
    while let Some(entry) = reader.next_entry()? {
        if window.is_none_or(|window| window == open_window) {
            serde_json::to_writer(&mut *out, &line(&entry.record, open_window))
                .map_err(|error| failed(error.into()))?;
            out.write_all(b"\n").map_err(failed)?;
            lines += 1;
        }
        if let Record::Seal(seal) = entry.record {
            open_window = seal.window.saturating_add(1);
        }
        if window.is_some_and(|window| open_window > window) {
            break;
        }
    }
    out.flush().map_err(failed)?;
    Ok(Some(lines))
}

fn line(record: &Record, window: u64) -> Line {
    match record {
        Record::Open(open) => open_line(open, window),
        Record::Close(close) => close_line(close),
        Record::Voucher(voucher) => voucher_line(voucher, window),
        Record::Seal(seal) => Line::Seal { window: seal.window, at_ms: seal.at_ms },
    }
}

fn open_line(open: &OpenRecord, window: u64) -> Line {
    Line::Open {
        call: open.call,
        window,
        at_ms: open.at_ms,
        payer: open.payer.to_string(),
        model: open.model,
        block: open.block,
        price_version: open.price.version,
        price_in_pico_per_token: open.price.in_pico_per_token,
        price_out_pico_per_token: open.price.out_pico_per_token,
        prompt_tokens: open.prompt_tokens,
        hold_pico: open.hold_pico,
    }
}

fn close_line(close: &CallRecord) -> Line {
    Line::Close {
        call: close.call,
        window: close.window,
        at_ms: close.at_ms,
        payer: close.payer.to_string(),
        model: close.model,
        price_version: close.price.version,
        price_in_pico_per_token: close.price.in_pico_per_token,
        price_out_pico_per_token: close.price.out_pico_per_token,
        prompt_tokens: close.usage.prompt_tokens,
        completion_tokens: close.usage.completion_tokens,
        charge_pico: close.charge.0,
        reason: close.reason,
        salt: close.salt,
    }
}

fn voucher_line(record: &VoucherRecord, window: u64) -> Line {
    let Voucher { channel, lane, maxCumulative, expiry } = &record.voucher;
    Line::Voucher {
        window,
        at_ms: record.at_ms,
        channel: *channel,
        lane: *lane,
        max_cumulative_pico: *maxCumulative,
        expiry: *expiry,
        signature: hex::encode_prefixed(record.signature),
    }
}
