//! [`Books`] on the real chain: reads by `eth_call` at a block, transactions through the one [`Sender`].

use std::sync::Arc;

use alloy::primitives::{B256, U256};
use dividend_chain::bindings::{ILineageRegistry, IPaymentChannels, IRoyaltyPool, IUsageLedger};
use dividend_chain::{At, Deployment, Error as ChainError, Intent as Transaction, Rpc, Sender, State};
use dividend_config::Finality;

use crate::Result;
use crate::books::{Books, Escrow, Fate, Heights, PrepaidLane};
use crate::figures::units;
use crate::plan::{Call, ChannelFunds, ClaimKey, Intent};
use crate::records::{RedeemRow, SealRow, WindowKey};

/// The deployed contracts, and the operator's sender.
#[derive(Clone)]
pub struct OnChain {
    rpc: Rpc,
    deployment: Deployment,
    sender: Arc<Sender>,
    finality: Finality,
}

impl OnChain {
    /// The contracts of `deployment`, sending by `sender`.
    pub fn new(deployment: Deployment, sender: Arc<Sender>, finality: Finality) -> Self {
        Self { rpc: sender.rpc().clone(), deployment, sender, finality }
    }
}

impl Books for OnChain {
    async fn heights(&self) -> Result<Heights> {
        let head = self.rpc.head(At::Latest).await?.map_or(0, |head| head.number);
        let finalized = match self.finality {
            Finality::Finalized => self.rpc.head(At::Finalized).await?.map_or(0, |head| head.number),
            Finality::Depth(depth) => head.saturating_sub(depth),
        };
        if finalized < self.deployment.block {
            let what =
                format!("finality of block {}, in which the contracts were deployed", self.deployment.block);
            return Err(ChainError::TimedOut { what, waited_ms: 0 }.into());
        }
        Ok(Heights { head, finalized: finalized.min(head) })
    }

    async fn next_window(&self, journal: B256, block: u64) -> Result<u64> {
        let call = IUsageLedger::nextWindowCall { journal };
        Ok(self.rpc.call_at(self.deployment.contracts.usage_ledger, &call, At::Number(block)).await?)
    }

    async fn posted_row(&self, key: WindowKey, model: B256, block: u64) -> Result<B256> {
        let call = IUsageLedger::sealOfCall { journal: key.journal, window: key.window, model };
        Ok(self.rpc.call_at(self.deployment.contracts.usage_ledger, &call, At::Number(block)).await?)
    }

    async fn knows_model(&self, model: B256, block: u64) -> Result<bool> {
        let call = ILineageRegistry::existsCall { id: model };
        Ok(self.rpc.call_at(self.deployment.contracts.lineage_registry, &call, At::Number(block)).await?)
    }

    async fn escrow(&self, block: u64) -> Result<Escrow> {
        let (ledger, at) = (self.deployment.contracts.usage_ledger, At::Number(block));
        let balance = IUsageLedger::balanceOfCall { fund: IUsageLedger::Fund::Escrow };
        Ok(Escrow {
            balance_units: units(self.rpc.call_at(ledger, &balance, at).await?)?,
            owed_units: units(self.rpc.call_at(ledger, &IUsageLedger::totalOwedCall {}, at).await?)?,
        })
    }

    async fn prepaid_lane(&self, model: B256, block: u64) -> Result<PrepaidLane> {
        let (ledger, at) = (self.deployment.contracts.usage_ledger, At::Number(block));
        let lane = self.rpc.call_at(ledger, &IUsageLedger::laneCall { model }, at).await?;
        let owed = self.rpc.call_at(ledger, &IUsageLedger::owedCall { model }, at).await?;
        Ok(PrepaidLane { accrued_pico: lane.accruedPico, paid_units: lane.paid, owed_units: units(owed)? })
    }

    async fn channel(&self, channel: B256, block: u64) -> Result<ChannelFunds> {
        let call = IPaymentChannels::channelCall { id: channel };
        let at = At::Number(block);
        match self.rpc.call_at(self.deployment.contracts.payment_channels, &call, at).await {
            Ok(state) => Ok(ChannelFunds { deposit_units: state.deposit, paid_units: state.paid }),
            // Opened in a block that is not final yet, or never.
            Err(ChainError::Reverted(reason)) if reason.starts_with("UnknownChannel") => {
                Ok(ChannelFunds::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn lane_paid(&self, channel: B256, model: B256, block: u64) -> Result<u128> {
        let call = IPaymentChannels::lanePaidCall { id: channel, lane: model };
        let at = At::Number(block);
        units(self.rpc.call_at(self.deployment.contracts.payment_channels, &call, at).await?)
    }

    async fn submit(&self, intent: &Intent) -> Result<()> {
        Ok(self.sender.submit(vec![transaction(&self.deployment, intent)]).await?)
    }

    async fn fate(&self, id: &str) -> Result<Fate> {
        if !self.sender.knows(id)? {
            return Ok(Fate::Unknown);
        }
        if !matches!(self.sender.state(id)?, State::Final(_)) {
            self.sender.tick().await?;
        }
        Ok(match self.sender.state(id)? {
            State::Final(mined) => match mined.reverted {
                None => Fate::Done { gas_used: mined.gas_used, block: mined.block_number },
                Some(problem) => Fate::Failed { problem },
            },
            State::Pending | State::Mined(_) => Fate::Pending,
        })
    }
}

/// The transaction of an intent.
pub(crate) fn transaction(deployment: &Deployment, intent: &Intent) -> Transaction {
    let contracts = &deployment.contracts;
    let id = intent.id.as_str();
    let mut transaction = match &intent.call {
        Call::PostSeal { key, rows, last } => {
            let (rows, last) = (rows.iter().map(seal_row).collect(), *last);
            let call = IUsageLedger::postSealCall { journal: key.journal, window: key.window, rows, last };
            Transaction::call(id, contracts.usage_ledger, &call)
        }
        Call::Redeem { rows } => {
            let call = IPaymentChannels::redeemBatchCall { rows: rows.iter().map(redeem_row).collect() };
            Transaction::call(id, contracts.payment_channels, &call)
        }
        Call::SettleOwed { model } => {
            Transaction::call(id, contracts.usage_ledger, &IUsageLedger::settleOwedCall { model: *model })
        }
        Call::ClaimMany { keys } => {
            let call = IRoyaltyPool::claimManyCall { keys: keys.iter().map(claim_key).collect() };
            Transaction::call(id, contracts.royalty_pool, &call)
        }
    };
    transaction.gas = Some(intent.call.gas_limit());
    transaction
}

fn seal_row(row: &SealRow) -> IUsageLedger::SealRow {
    IUsageLedger::SealRow {
        model: row.model,
        prepaidRoot: row.prepaid_root,
        prepaidSum: row.prepaid_pico,
        channelRoot: row.channel_root,
        channelSum: row.channel_pico,
    }
}

fn redeem_row(row: &RedeemRow) -> IPaymentChannels::Row {
    let RedeemRow { channel, model, voucher, claim } = row;
    IPaymentChannels::Row {
        voucher: IPaymentChannels::Voucher {
            channel: *channel,
            lane: *model,
            maxCumulative: voucher.max_pico,
            expiry: voucher.expiry,
        },
        voucherSignature: voucher.signature.clone(),
        claim: IPaymentChannels::Claim {
            channel: *channel,
            lane: *model,
            cumulative: claim.cumulative_pico,
            sealDigest: claim.seal_digest,
        },
        claimSignature: claim.signature.clone(),
    }
}

fn claim_key(key: &ClaimKey) -> IRoyaltyPool::ClaimKey {
    IRoyaltyPool::ClaimKey { model: key.model, node: key.node, slot: U256::from(key.slot) }
}
