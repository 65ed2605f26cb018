//! One log at a time.

use std::sync::Arc;

use alloy::primitives::{B256, U256};
use dividend_chain::bindings::ILineageRegistry::{self, NodeRegistered};
use dividend_chain::bindings::{IPaymentChannels, IRoyaltyPool, IUsageLedger};
use dividend_chain::{Deployment, Log, Result};

use super::State;
use crate::{
    ChannelView, Kind, LaneView, ModelId, ModelView, ParentView, PriceFloor, Row, Slot, TrackId, TrackView,
    Withdrawal,
};

/// Base units are micro-dollars, accounts of charges are in pico-dollars.
const PICO_PER_UNIT: u128 = 1_000_000;
const PPM: u128 = 1_000_000;

impl State {
    /// Takes the next log. Events that say nothing about the state are passed over.
    ///
    /// # Errors
    /// [`dividend_chain::Error::BadLog`] if the log contradicts the ones before or does not decode.
    pub fn apply(&mut self, deployment: &Deployment, log: &Log) -> Result<()> {
        let contracts = &deployment.contracts;
        match log.address {
            address if address == contracts.lineage_registry => self.apply_lineage(log),
            address if address == contracts.payment_channels => self.apply_channels(deployment, log),
            address if address == contracts.royalty_pool => self.apply_pool(log),
            address if address == contracts.usage_ledger => self.apply_ledger(log),
            _ => Ok(()),
        }
    }

    fn apply_lineage(&mut self, log: &Log) -> Result<()> {
        if log.is::<NodeRegistered>() {
            let model = model_of(log, log.decode()?)?;
            Arc::make_mut(&mut self.models).insert(model.id, Arc::new(model));
        } else if log.is::<ILineageRegistry::PayeeRotated>() {
            let event: ILineageRegistry::PayeeRotated = log.decode()?;
            let number = usize::try_from(event.slot).unwrap_or(usize::MAX);
            let models = Arc::make_mut(&mut self.models);
            let model = models.get_mut(&event.node.into()).map(Arc::make_mut);
            let slot = model.and_then(|model| model.slots.get_mut(number));
            slot.ok_or_else(|| unknown(log, "slot", event.node))?.payee = event.newPayee;
        } else if log.is::<ILineageRegistry::TrackCreated>() {
            self.create_track(log.decode()?);
        } else if log.is::<ILineageRegistry::ChampionChanged>() {
            let event: ILineageRegistry::ChampionChanged = log.decode()?;
            let champions = &mut self.track(log, event.track)?.champions;
            champions.push(event.node.into());
            if champions.len() as u64 != event.n {
                return Err(
                    log.refuse(format!("champion {} of track {} is out of order", event.n, event.track))
                );
            }
        } else if log.is::<ILineageRegistry::TrackLocked>() {
            let event: ILineageRegistry::TrackLocked = log.decode()?;
            self.track(log, event.track)?.locked = true;
        } else if log.is::<ILineageRegistry::TrackUnlocked>() {
            let event: ILineageRegistry::TrackUnlocked = log.decode()?;
            self.track(log, event.track)?.locked = false;
        }
        Ok(())
    }

    fn create_track(&mut self, event: ILineageRegistry::TrackCreated) {
        let track = TrackView {
            id: event.track.into(),
            name: event.name,
            owner: event.owner,
            champions: Vec::new(),
            champion_inherit_ppm: event.charter.championInheritPpm,
            verifier_ppm: event.charter.verifierPpm,
            verifiers: event.charter.verifiers,
            locked: false,
        };
        Arc::make_mut(&mut self.track_names).insert(track.name.clone(), track.id);
        Arc::make_mut(&mut self.tracks).insert(track.id, Arc::new(track));
    }

    fn track(&mut self, log: &Log, id: B256) -> Result<&mut TrackView> {
        let track = Arc::make_mut(&mut self.tracks).get_mut(&TrackId::from(id));
        track.map(Arc::make_mut).ok_or_else(|| unknown(log, "track", id))
    }

    fn apply_channels(&mut self, deployment: &Deployment, log: &Log) -> Result<()> {
        if log.is::<IPaymentChannels::ChannelOpened>() {
            let event: IPaymentChannels::ChannelOpened = log.decode()?;
            let channel = ChannelView {
                id: event.channel,
                payer: event.payer,
                signer: event.signer,
                operator: deployment.operator,
                withdraw_delay_s: deployment.withdrawal_delay_s,
                deposit_units: 0,
                redeemed_units: 0,
                lanes: Default::default(),
                withdrawal: None,
            };
            self.channels.insert(event.channel, Arc::new(channel));
        } else if log.is::<IPaymentChannels::Deposited>() {
            let event: IPaymentChannels::Deposited = log.decode()?;
            self.channel(log, event.channel)?.deposit_units = units(log, event.deposit)?;
        } else if log.is::<IPaymentChannels::WithdrawalRequested>() {
            let event: IPaymentChannels::WithdrawalRequested = log.decode()?;
            let (matures_at_s, lapses_at_s) = (event.withdrawableAt, event.lapsesAt);
            let request = Withdrawal { amount_units: units(log, event.amount)?, matures_at_s, lapses_at_s };
            let asked = (request.amount_units != 0).then_some(request);
            self.channel(log, event.channel)?.withdrawal = asked;
        } else if log.is::<IPaymentChannels::WithdrawalFinalized>() {
            let event: IPaymentChannels::WithdrawalFinalized = log.decode()?;
            let channel = self.channel(log, event.channel)?;
            channel.deposit_units = units(log, event.deposit)?;
            channel.withdrawal = None;
        } else if log.is::<IPaymentChannels::Redeemed>() {
            let event: IPaymentChannels::Redeemed = log.decode()?;
            let paid_units = units(log, event.lanePaid)?;
            let channel = self.channel(log, event.channel)?;
            channel.redeemed_units = units(log, event.channelPaid)?;
            channel.lanes.insert(event.lane.into(), LaneView { paid_units });
        }
        Ok(())
    }

    fn channel(&mut self, log: &Log, id: B256) -> Result<&mut ChannelView> {
        self.channels.get_mut(&id).map(Arc::make_mut).ok_or_else(|| unknown(log, "channel", id))
    }

    fn apply_pool(&mut self, log: &Log) -> Result<()> {
        if log.is::<IRoyaltyPool::Credited>() {
            let event: IRoyaltyPool::Credited = log.decode()?;
            self.revenue.insert(event.model.into(), units(log, event.revenue)?);
        } else if log.is::<IRoyaltyPool::Claimed>() {
            let event: IRoyaltyPool::Claimed = log.decode()?;
            let slot = u8::try_from(event.slot).map_err(|_| log.refuse(format!("slot {}", event.slot)))?;
            let key = (event.model.into(), event.node.into(), slot);
            self.claimed.insert(key, units(log, event.claimed)?);
        }
        Ok(())
    }

    fn apply_ledger(&mut self, log: &Log) -> Result<()> {
        if log.is::<IUsageLedger::SealPosted>() {
            let event: IUsageLedger::SealPosted = log.decode()?;
            self.escrow.accrued_pico.insert(event.model.into(), event.accruedPico);
            self.update_owed(log, event.model.into())?;
        } else if log.is::<IUsageLedger::RoyaltyPaid>() {
            let event: IUsageLedger::RoyaltyPaid = log.decode()?;
            let (amount, paid) = (units(log, event.amount)?, units(log, event.paid)?);
            let left = self.escrow.balance_units.checked_sub(amount);
            self.escrow.balance_units =
                left.ok_or_else(|| log.refuse("pays more than the escrow has".into()))?;
            self.escrow.paid_units.insert(event.model.into(), paid);
            self.update_owed(log, event.model.into())?;
        } else if log.is::<IUsageLedger::FundIncreased>() {
            let event: IUsageLedger::FundIncreased = log.decode()?;
            self.set_fund(event.fund, units(log, event.balance)?);
        } else if log.is::<IUsageLedger::FundWithdrawn>() {
            let event: IUsageLedger::FundWithdrawn = log.decode()?;
            self.set_fund(event.fund, units(log, event.balance)?);
        }
        Ok(())
    }

    fn set_fund(&mut self, fund: IUsageLedger::Fund, balance_units: u128) {
        if fund == IUsageLedger::Fund::Escrow {
            self.escrow.balance_units = balance_units;
        }
    }

    /// `R − paid`, where `C = floor(P / 10⁶)` and `R = floor(C · royalty / 10⁶)`.
    fn update_owed(&mut self, log: &Log, id: ModelId) -> Result<()> {
        let model = self.models.get(&id).ok_or_else(|| unknown(log, "model", id.as_b256()))?;
        let charged = self.escrow.accrued_pico.get(&id).copied().unwrap_or(0) / PICO_PER_UNIT;
        // Floors of quotient and remainder apart: the product of a u128 and a ppm may not fit.
        let ppm = u128::from(model.royalty_ppm);
        let royalty = charged / PPM * ppm + charged % PPM * ppm / PPM;
        let owed = royalty.saturating_sub(self.escrow.paid_units.get(&id).copied().unwrap_or(0));
        match owed {
            0 => self.escrow.owed_units.remove(&id),
            owed => self.escrow.owed_units.insert(id, owed),
        };
        Ok(())
    }
}

fn model_of(log: &Log, event: NodeRegistered) -> Result<ModelView> {
    let input = event.input;
    let kind = match input.kind {
        ILineageRegistry::Kind::Base => Kind::Base,
        ILineageRegistry::Kind::Fork => Kind::Fork,
        ILineageRegistry::Kind::Patch => Kind::Patch,
        ILineageRegistry::Kind::__Invalid => return Err(log.refuse("unknown kind of model".into())),
    };
    let parent = |p: &ILineageRegistry::Parent| ParentView { model: p.node.into(), weight_ppm: p.weightPpm };
    let slot = |s: &ILineageRegistry::Slot| Slot { share_ppm: s.sharePpm, payee: s.payee };
    let row =
        |r: &ILineageRegistry::Row| Row { node: r.node.into(), share_ppm: r.ppm, floor_ppm: r.floorPpm };
    Ok(ModelView {
        id: event.node.into(),
        owner: event.registrant,
        kind,
        parents: input.parents.iter().map(parent).collect(),
        inherit_ppm: input.inheritPpm,
        slots: input.slots.iter().map(slot).collect(),
        royalty_ppm: input.royaltyPpm,
        min_price: PriceFloor {
            input_pico_per_token: input.minPriceIn,
            output_pico_per_token: input.minPriceOut,
        },
        floor_ppm: input.floorPpm,
        artifact_digest: input.artifactDigest,
        uri: input.uri,
        track: (!event.track.is_zero()).then(|| event.track.into()),
        rows: event.table.iter().map(row).collect(),
        registered_at: log.block_number,
    })
}

fn units(log: &Log, amount: U256) -> Result<u128> {
    amount.try_into().map_err(|_| log.refuse(format!("amount {amount} is more than a u128 holds")))
}

fn unknown(log: &Log, what: &str, id: B256) -> dividend_chain::Error {
    log.refuse(format!("names {what} {id}, of which no earlier log speaks"))
}
