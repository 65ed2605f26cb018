//! Serves metered calls on several threads until it is killed, and tells on stdout what a client saw: the other half of
//! `tests/kill.rs`. Arguments: directory, threads, tokens per chunk.
//!
//! Each line is one `write(2)`: `open CALL`, `made CALL TOKENS` before tokens are counted, `sent CALL TOKENS` after, and
//! `closed CALL TOKENS`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use dividend_chain::{Address, B256, Key};
use dividend_meter::{
    CallOpening, CloseReason, Deployment, Meter, MeterOptions, Operator, Payer, PriceVersion, SystemClock,
};
use dividend_registry::ModelId;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir: PathBuf = args.next().context("usage: writer DIR THREADS CHUNK")?.into();
    let threads: u8 = args.next().context("THREADS")?.parse()?;
    let chunk: u32 = args.next().context("CHUNK")?.parse()?;
    let (usage_ledger, payment_channels) = (Address::repeat_byte(0xaa), Address::repeat_byte(0xbb));
    let deployment = Deployment { chain_id: 31337, usage_ledger, payment_channels };
    let operator = Operator { key: Key::from_bytes(B256::repeat_byte(0x11))?, deployment };
    let options = MeterOptions { segment_bytes: 64 << 10, slots: 64, ..MeterOptions::default() };
    let (meter, _) = Meter::open(&dir, options, operator, Arc::new(SystemClock))?;
    let workers: Vec<_> = (0..threads)
        .map(|payer| {
            let meter = meter.clone();
            std::thread::spawn(move || serve(&meter, payer, chunk))
        })
        .collect();
    loop {
        meter.seal_window()?;
        if workers.iter().any(|worker| worker.is_finished()) {
            anyhow::bail!("a worker stopped");
        }
    }
}

fn serve(meter: &Meter, payer: u8, chunk: u32) -> anyhow::Result<()> {
    let opening = CallOpening {
        call: None,
        payer: Payer::Key([payer; 32]),
        model: ModelId([1; 32]),
        block: 1,
        price: PriceVersion { version: 1, in_pico_per_token: 3, out_pico_per_token: 7 },
        prompt_tokens: 10,
        hold_pico: 0,
    };
    for round in 0u32.. {
        let guard = meter.open_call(opening)?;
        let call = guard.id();
        tell(format!("open {call}\n"))?;
        let mut tokens = 0;
        for _ in 0..(round % 17) {
            tell(format!("made {call} {}\n", tokens + chunk))?;
            guard.generated(chunk);
            tokens += chunk;
            tell(format!("sent {call} {tokens}\n"))?;
        }
        guard.close(CloseReason::Stop)?;
        tell(format!("closed {call} {tokens}\n"))?;
    }
    Ok(())
}

fn tell(line: String) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}
