//! One sender per account: it alone owns the nonce.
//!
//! An intent and its signed transaction are stored before the first byte is sent, so that a kill at any point leaves
//! something that a restart finishes: the same bytes under the same nonce, never a second payment. An intent id names
//! one transaction for ever; sending it again gives the result of the first time.

mod intent;
mod record;
mod signing;
mod store;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use alloy::rpc::types::TransactionReceipt;
use dividend_config::{Chain, Finality};
use tokio::sync::Mutex;

pub use intent::Intent;
use record::{Attempt, Record};
pub use record::{Mined, State};
use store::Store;

use crate::{At, Error, Key, Result, Rpc};

/// Most gas that one transaction may use (EIP-7825).
pub const GAS_CAP: u64 = 16_777_216;

/// Sends the transactions of one account.
pub struct Sender {
    rpc: Rpc,
    key: Key,
    chain_id: u64,
    store: Store,
    finality: Finality,
    poll: Duration,
    bump_after: Duration,
    max_fee_wei: u128,
    /// Serialises everything that reads and then moves the nonce or a record.
    watch: Mutex<Watch>,
}

/// What this process has seen of its transactions.
#[derive(Debug, Default)]
struct Watch {
    /// When each nonce was last sent.
    sent: HashMap<u64, Instant>,
    /// Nonces that a final block has used although their transaction has no receipt, and the first such block.
    taken: HashMap<u64, u64>,
}

impl Sender {
    /// Opens the account's book in `dir`, which keeps a second sender with the same key from using it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another sender has it open, [`Error::ForeignStore`] if it is of another chain,
    /// [`Error::NonceBehind`] and [`Error::ForeignNonce`] if book and chain contradict each other, and as
    /// [`Rpc::request`].
    pub async fn open(rpc: Rpc, key: Key, dir: &Path, settings: &Chain) -> Result<Self> {
        let chain_id = rpc.chain_id().await?;
        let genesis = rpc.head(At::Number(0)).await?.ok_or_else(|| rpc.missing("genesis block"))?.hash;
        let path = dir.join(format!("sender-{:#x}.redb", key.address()));
        let nonce = rpc.nonce(key.address(), At::Latest).await?;
        let store = Store::open(&path, chain_id, genesis, nonce)?;
        let sender = Self {
            rpc,
            key,
            chain_id,
            store,
            finality: settings.finality,
            poll: Duration::from_millis(settings.poll_ms),
            bump_after: Duration::from_millis(settings.fee_bump_after_ms),
            max_fee_wei: settings.max_fee_per_gas_wei.into(),
            watch: Mutex::default(),
        };
        sender.check_book(nonce)?;
        Ok(sender)
    }

    /// The account that pays for gas.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// The connection that the sender uses.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Sends the intent, or finds that it was sent before, and waits until it is mined.
    ///
    /// # Errors
    /// [`Error::Reverted`] if the contract refuses it: before sending, in which case the id is still free, or once
    /// mined. [`Error::GasCap`], [`Error::IntentReused`], [`Error::NoFunds`], [`Error::ForeignNonce`], and as
    /// [`Rpc::request`]. After a retryable error the intent may be under way: send the same id again.
    pub async fn send(&self, intent: Intent) -> Result<Mined> {
        let id = intent.id.clone();
        self.submit(vec![intent]).await?;
        self.mined(&id).await
    }

    /// Stores and sends the intents with consecutive nonces, without waiting. Those that are known are left alone; the
    /// new ones are stored in one transaction.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn submit(&self, intents: Vec<Intent>) -> Result<()> {
        let mut watch = self.watch.lock().await;
        let mut nonce = self.store.next_nonce()?;
        let mut fresh = Vec::new();
        for intent in intents {
            let digest = record::digest(&intent);
            match self.store.get(&intent.id)? {
                Some(known) if known.digest != digest => return Err(Error::IntentReused { id: intent.id }),
                Some(_) => {}
                None => {
                    fresh.push(self.record(intent, digest, nonce).await?);
                    nonce += 1;
                }
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        self.store.insert(&fresh)?;
        for record in &fresh {
            self.broadcast(record, &mut watch).await?;
        }
        Ok(())
    }

    /// Waits until the intent is mined.
    ///
    /// # Errors
    /// As [`Sender::send`]; [`Error::UnknownIntent`] if it was never submitted.
    pub async fn mined(&self, id: &str) -> Result<Mined> {
        let mut pause = tokio::time::interval(self.poll);
        loop {
            pause.tick().await;
            match self.state(id)? {
                State::Mined(mined) | State::Final(mined) => return mined.into_result(),
                State::Pending => self.tick().await?,
            }
            if let State::Mined(mined) | State::Final(mined) = self.state(id)? {
                return mined.into_result();
            }
        }
    }

    /// Waits until the intent is mined in a block that is final.
    ///
    /// # Errors
    /// As [`Sender::mined`].
    pub async fn finalized(&self, id: &str) -> Result<Mined> {
        let mut pause = tokio::time::interval(self.poll);
        loop {
            pause.tick().await;
            if let State::Final(mined) = self.state(id)? {
                return mined.into_result();
            }
            self.tick().await?;
        }
    }

    /// The state of an intent.
    ///
    /// # Errors
    /// [`Error::UnknownIntent`] if it was never submitted; [`Error::Store`].
    pub fn state(&self, id: &str) -> Result<State> {
        let record = self.store.get(id)?.ok_or_else(|| Error::UnknownIntent { id: id.into() })?;
        Ok(record.state)
    }

    /// Whether the intent was ever submitted.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn knows(&self, id: &str) -> Result<bool> {
        Ok(self.store.get(id)?.is_some())
    }

    /// The nonce that an intent has, or would get if it were submitted now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn nonce_for(&self, id: &str) -> Result<u64> {
        match self.store.get(id)? {
            Some(record) => Ok(record.nonce),
            None => self.store.next_nonce(),
        }
    }

    /// Looks after every intent that is not final: finds receipts, sends again what a restart or a reorganisation lost,
    /// and raises the fee of what is stuck.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn tick(&self) -> Result<()> {
        let mut watch = self.watch.lock().await;
        let records = self.store.unfinished()?;
        if records.is_empty() {
            return Ok(());
        }
        let finalized = self.rpc.final_height(self.finality).await?;
        for record in records {
            match self.receipt(&record).await? {
                Some(receipt) => {
                    watch.taken.remove(&record.nonce);
                    self.settle(record, &receipt, finalized).await?;
                }
                None => {
                    self.check_nonce(&record, finalized, &mut watch).await?;
                    self.pursue(record, &mut watch).await?;
                }
            }
        }
        Ok(())
    }

    /// Looks after unfinished intents for as long as it is polled; run it beside the work that sends. Errors are logged and
    /// tried again.
    pub async fn maintain(&self) {
        let mut pause = tokio::time::interval(self.poll);
        loop {
            pause.tick().await;
            if let Err(error) = self.tick().await {
                tracing::warn!(%error, account = %self.address(), "cannot look after sent transactions");
            }
        }
    }

    /// Refuses a book whose past the chain does not have, or a chain whose past the book does not have.
    fn check_book(&self, on_chain: u64) -> Result<()> {
        let next = self.store.next_nonce()?;
        if on_chain > next {
            return Err(self.foreign_nonce(on_chain, next));
        }
        let unfinished = self.store.unfinished()?.len() as u64;
        if on_chain < next - unfinished {
            return Err(Error::NonceBehind {
                account: self.address(),
                expected: next - unfinished,
                found: on_chain,
            });
        }
        Ok(())
    }

    /// Refuses when another transaction took the nonce for good. Before it is final, a missing receipt may as well mean a
    /// reorganisation or an endpoint that lags behind; and a node may show the nonce before the receipt of the block
    /// that used it, so a later final block must show the same.
    async fn check_nonce(&self, record: &Record, finalized: u64, watch: &mut Watch) -> Result<()> {
        let next = self.rpc.nonce(self.address(), At::Number(finalized)).await?;
        if next <= record.nonce || record.state != State::Pending {
            watch.taken.remove(&record.nonce);
            return Ok(());
        }
        let first = *watch.taken.entry(record.nonce).or_insert(finalized);
        if finalized > first { Err(self.foreign_nonce(next, record.nonce)) } else { Ok(()) }
    }

    fn foreign_nonce(&self, found: u64, expected: u64) -> Error {
        Error::ForeignNonce { account: self.address(), expected, found }
    }

    async fn record(&self, intent: Intent, digest: B256, nonce: u64) -> Result<Record> {
        let gas = match intent.gas {
            Some(gas) if gas > GAS_CAP => return Err(Error::GasCap { needed: gas, cap: GAS_CAP }),
            Some(gas) => gas,
            None => self.estimate(&intent).await?,
        };
        let fees = signing::opening_fees(self.rpc.fees().await?, self.max_fee_wei);
        let mut record = Record {
            id: intent.id,
            digest,
            nonce,
            to: intent.to,
            input: intent.input,
            value_wei: intent.value_wei,
            gas,
            attempts: Vec::new(),
            state: State::Pending,
        };
        let attempt = signing::sign(&self.key, self.chain_id, &record, fees)?;
        record.attempts.push(attempt);
        Ok(record)
    }

    /// Estimated gas with a quarter of headroom, because the state may differ once it is mined.
    async fn estimate(&self, intent: &Intent) -> Result<u64> {
        let request = signing::request(self.address(), intent.to, &intent.input, intent.value_wei);
        let needed = self.rpc.estimate_gas(&request).await?;
        if needed > GAS_CAP {
            return Err(Error::GasCap { needed, cap: GAS_CAP });
        }
        Ok(needed.saturating_add(needed / 4).min(GAS_CAP))
    }

    async fn receipt(&self, record: &Record) -> Result<Option<TransactionReceipt>> {
        for attempt in record.attempts.iter().rev() {
            if let Some(receipt) = self.rpc.receipt(attempt.hash).await?
                && receipt.block_number.is_some()
            {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    async fn settle(&self, record: Record, receipt: &TransactionReceipt, finalized: u64) -> Result<()> {
        let (Some(block_number), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else {
            return Ok(());
        };
        let reverted = match (receipt.status(), &record.state) {
            (true, _) => None,
            (false, State::Mined(known)) if known.block_hash == block_hash => known.reverted.clone(),
            (false, _) => Some(self.why_reverted(&record, block_number).await),
        };
        let mined = Mined {
            transaction: receipt.transaction_hash,
            block_number,
            block_hash,
            gas_used: receipt.gas_used,
            fee_wei: receipt.effective_gas_price.saturating_mul(receipt.gas_used.into()),
            created: receipt.contract_address,
            reverted,
        };
        let next = match block_number <= finalized {
            true => State::Final(mined),
            false => State::Mined(mined),
        };
        if next == record.state {
            return Ok(());
        }
        self.store.transition(&record.id, &record.state, next)
    }

    /// Runs the transaction again on the block before, where it most likely fails for the same reason.
    async fn why_reverted(&self, record: &Record, block: u64) -> String {
        let request = signing::request(self.address(), record.to, &record.input, record.value_wei);
        match self.rpc.replay(&request, At::Number(block.saturating_sub(1))).await {
            Err(Error::Reverted(reason)) => reason,
            _ => "in its block, for a reason that depends on what came before it there".into(),
        }
    }

    /// A transaction without receipt: takes back what a reorganisation undid, then sends again or raises the fee.
    async fn pursue(&self, mut record: Record, watch: &mut Watch) -> Result<()> {
        if record.state != State::Pending {
            tracing::warn!(intent = record.id, "a reorganisation removed the transaction: sending it again");
            self.store.transition(&record.id, &record.state, State::Pending)?;
            watch.sent.remove(&record.nonce);
        }
        match watch.sent.get(&record.nonce) {
            Some(at) if at.elapsed() < self.bump_after => return Ok(()),
            Some(_) => self.bump(&mut record).await?,
            None => {}
        }
        self.broadcast(&record, watch).await
    }

    async fn bump(&self, record: &mut Record) -> Result<()> {
        let Some(last) = record.attempts.last() else { return Ok(()) };
        let Some(fees) = signing::raised_fees(last.fees, self.rpc.fees().await?, self.max_fee_wei) else {
            tracing::warn!(
                intent = record.id,
                max_fee_wei = self.max_fee_wei,
                "stuck at the highest fee allowed"
            );
            return Ok(());
        };
        let attempt: Attempt = signing::sign(&self.key, self.chain_id, record, fees)?;
        self.store.add_attempt(&record.id, &attempt)?;
        tracing::info!(
            intent = record.id,
            max_fee_wei = fees.max_wei,
            "raised the fee of a stuck transaction"
        );
        record.attempts.push(attempt);
        Ok(())
    }

    async fn broadcast(&self, record: &Record, watch: &mut Watch) -> Result<()> {
        let Some(attempt) = record.attempts.last() else { return Ok(()) };
        match self.rpc.send_raw(&attempt.raw).await {
            Ok(_) => {}
            Err(Error::Refused { problem, .. }) if signing::is_known(&problem) => {}
            Err(Error::Refused { problem, .. }) if problem.to_lowercase().contains("insufficient funds") => {
                return Err(Error::NoFunds { account: self.address(), problem });
            }
            Err(error) => return Err(error),
        }
        watch.sent.insert(record.nonce, Instant::now());
        Ok(())
    }
}
