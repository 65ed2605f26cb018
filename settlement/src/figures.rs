//! The contracts' figures for [`crate::reconcile`], read one by one at one block.

use alloy::primitives::{B256, U256};
use dividend_chain::bindings::{IDollar, ILineageRegistry, IPaymentChannels, IRoyaltyPool, IUsageLedger};
use dividend_chain::{At, Deployment, Rpc};

use crate::books::PrepaidLane;
use crate::plan::ClaimKey;
use crate::reconcile::{Figures, Questions};
use crate::{Error, Result};

/// Reads everything that `asked` names, as of block `block`.
///
/// # Errors
/// [`Error::Chain`] if a call fails, [`Error::Overflow`] for an amount that no token has.
pub async fn figures(rpc: &Rpc, deployment: &Deployment, asked: &Questions, block: u64) -> Result<Figures> {
    let reader = Reader { rpc, deployment, at: At::Number(block) };
    let mut figures = Figures { block, ..reader.totals().await? };
    for model in &asked.models {
        reader.model(*model, &mut figures).await?;
    }
    let channels = deployment.contracts.payment_channels;
    for (channel, lane) in &asked.lanes {
        let call = IPaymentChannels::lanePaidCall { id: *channel, lane: *lane };
        figures.lanes.insert((*channel, *lane), units(rpc.call_at(channels, &call, reader.at).await?)?);
    }
    for key in asked.slots.keys() {
        figures.slots.insert(*key, reader.slot(key).await?);
    }
    Ok(figures)
}

struct Reader<'a> {
    rpc: &'a Rpc,
    deployment: &'a Deployment,
    at: At,
}

impl Reader<'_> {
    async fn totals(&self) -> Result<Figures> {
        let contracts = &self.deployment.contracts;
        let (pool, at) = (contracts.royalty_pool, self.at);
        let balance = IDollar::balanceOfCall { account: pool };
        let earnings = IPaymentChannels::earningsCall {};
        Ok(Figures {
            total_revenue: units(self.rpc.call_at(pool, &IRoyaltyPool::totalRevenueCall {}, at).await?)?,
            total_claimed: units(self.rpc.call_at(pool, &IRoyaltyPool::totalClaimedCall {}, at).await?)?,
            pool_balance: units(self.rpc.call_at(self.deployment.token, &balance, at).await?)?,
            operator_balance: units(self.rpc.call_at(contracts.payment_channels, &earnings, at).await?)?,
            ..Figures::default()
        })
    }

    async fn model(&self, model: B256, figures: &mut Figures) -> Result<()> {
        let (contracts, at) = (&self.deployment.contracts, self.at);
        let terms = ILineageRegistry::tryRoyaltyPpmCall { model };
        let terms = self.rpc.call_at(contracts.lineage_registry, &terms, at).await?;
        let ppm = u32::try_from(terms.ppm).map_err(|_| Error::UnknownModel(model.to_string()))?;
        figures.royalty_ppm.insert(model, ppm);
        let lane = self.rpc.call_at(contracts.usage_ledger, &IUsageLedger::laneCall { model }, at).await?;
        let owed = self.rpc.call_at(contracts.usage_ledger, &IUsageLedger::owedCall { model }, at).await?;
        let lane =
            PrepaidLane { accrued_pico: lane.accruedPico, paid_units: lane.paid, owed_units: units(owed)? };
        figures.prepaid.insert(model, lane);
        let revenue = IRoyaltyPool::revenueCall { model };
        figures.revenue.insert(model, units(self.rpc.call_at(contracts.royalty_pool, &revenue, at).await?)?);
        Ok(())
    }

    /// Credited and claimed.
    async fn slot(&self, key: &ClaimKey) -> Result<(u128, u128)> {
        let (pool, at) = (self.deployment.contracts.royalty_pool, self.at);
        let ClaimKey { model, node, slot } = *key;
        let slot = U256::from(slot);
        let credited = self.rpc.call_at(pool, &IRoyaltyPool::creditedCall { model, node, slot }, at).await?;
        let claimed = self.rpc.call_at(pool, &IRoyaltyPool::claimedCall { model, node, slot }, at).await?;
        Ok((units(credited)?, units(claimed)?))
    }
}

/// Token amounts stay below 2^128 base units: the token's issuer would have to mint more than that.
pub(crate) fn units(amount: U256) -> Result<u128> {
    amount.try_into().map_err(|_| Error::Overflow { what: format!("the token amount {amount}") })
}
