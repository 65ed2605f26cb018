//! Redeem batches: planned when due, sent, confirmed at finality.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::books::{Books, Fate, Heights};
use crate::lanes::{redeemable_units, target_units};
use crate::plan::{self, ChannelBooks, ChannelFunds, Due, Redemption};
use crate::records::{BatchRecord, LaneRecord};
use crate::settler::windows::MAX_ATTEMPTS;
use crate::settler::{HeldLane, Point, Report, Settler};
use crate::transitions::{Event, State};
use crate::{Error, Result};

impl<B: Books> Settler<B> {
    /// Brings open batches forward and begins new ones when value or age makes them due.
    pub(super) async fn redeem(&mut self, heights: Heights, flush: bool, report: &mut Report) -> Result<()> {
        if !self.lanes_fresh {
            self.read_lanes_anew(heights.finalized).await?;
            self.lanes_fresh = true;
        }
        for batch in self.ledger.open_batches()? {
            self.advance(batch).await?;
        }
        let plan = self.plan(heights, flush).await?;
        report.waiting_units = plan.waiting_units;
        report.held = plan
            .held
            .into_iter()
            .map(|(channel, model, reason)| HeldLane { channel, model, reason })
            .collect();
        for rows in plan.batches {
            let batch = self.ledger.begin_batch(rows, self.now_ms())?;
            tracing::info!(batch = batch.number, rows = batch.rows.len(), "redeem batch planned");
            self.reached(Point::Batch(batch.number, State::Signed))?;
            self.advance(batch).await?;
        }
        Ok(())
    }

    /// Plans from what the ledger remembers of the chain, and only if that makes a batch due asks the chain itself.
    async fn plan(&self, heights: Heights, flush: bool) -> Result<Redemption> {
        let lanes = self.ledger.lanes()?;
        let in_flight: BTreeSet<_> = self
            .ledger
            .open_batches()?
            .iter()
            .flat_map(|batch| batch.rows.iter().map(|row| (row.channel, row.model)))
            .collect();
        let due = Due { now_ms: self.now_ms(), flush };
        let hopeful = plan::redemption(&lanes, &in_flight, &remembered(&lanes), &self.operator.settings, due);
        if hopeful.batches.is_empty() {
            return Ok(hopeful);
        }
        let books = self.books_of(&lanes, heights.finalized).await?;
        Ok(plan::redemption(&lanes, &in_flight, &books, &self.operator.settings, due))
    }

    /// The chain's figures for every lane whose claim is above what the ledger knows to be paid.
    async fn books_of(&self, lanes: &[LaneRecord], block: u64) -> Result<ChannelBooks> {
        let mut books = remembered(lanes);
        let mut channels: BTreeSet<B256> = BTreeSet::new();
        for lane in lanes.iter().filter(|lane| lane.owed_units() > 0) {
            let paid = self.books.lane_paid(lane.channel, lane.model, block).await?;
            books.lanes.insert((lane.channel, lane.model), paid);
            channels.insert(lane.channel);
        }
        for channel in channels {
            books.channels.insert(channel, self.books.channel(channel, block).await?);
        }
        Ok(books)
    }

    /// One step of a batch: hand it to the sender if it is not there, and see what became of it.
    async fn advance(&self, batch: BatchRecord) -> Result<()> {
        let number = batch.number;
        let batch = if batch.state() == State::Signed {
            let submitted = self.ledger.advance_batch(
                number,
                State::Signed,
                Event::Submit,
                self.now_ms(),
                |_| (),
                |_| (),
            )?;
            self.reached(Point::Batch(number, State::Submitted))?;
            submitted
        } else {
            batch
        };
        let intent = plan::redeem(&batch);
        self.books.submit(&intent).await?;
        self.reached(Point::Sent(intent.id.clone()))?;
        match self.books.fate(&intent.id).await? {
            Fate::Pending | Fate::Unknown => Ok(()),
            Fate::Done { gas_used, block } => self.confirm_batch(&batch, gas_used, block).await,
            Fate::Failed { problem } => self.refuse_batch(&batch, problem),
        }
    }

    /// Stores what each lane had paid when the batch was mined. A lane that could have paid more was passed over: its row
    /// is not sent again until its claim is higher.
    async fn confirm_batch(&self, batch: &BatchRecord, gas_used: u64, block: u64) -> Result<()> {
        let mut paid = BTreeMap::new();
        let mut refused = BTreeMap::new();
        for row in &batch.rows {
            let units = self.books.lane_paid(row.channel, row.model, block).await?;
            let funds = self.books.channel(row.channel, block).await?;
            let left = funds.deposit_units.saturating_sub(funds.paid_units);
            paid.insert((row.channel, row.model), units);
            if redeemable_units(row.claim.cumulative_pico, units, left) > 0 {
                tracing::warn!(channel = %row.channel, model = %row.model, "the chain passed the row over");
                refused.insert((row.channel, row.model), row.claim.cumulative_pico);
            }
        }
        let now_ms = self.now_ms();
        let change_lane = |lane: &mut LaneRecord| {
            let key = (lane.channel, lane.model);
            lane.paid_units = paid.get(&key).copied().unwrap_or(lane.paid_units);
            lane.refused_pico = refused.get(&key).copied().unwrap_or(lane.refused_pico);
            lane.waiting_since_ms = if lane.owed_units() > 0 { now_ms } else { 0 };
        };
        let set_gas = |record: &mut BatchRecord| record.gas_used = gas_used;
        self.ledger.advance_batch(
            batch.number,
            State::Submitted,
            Event::Confirm,
            now_ms,
            set_gas,
            change_lane,
        )?;
        tracing::info!(batch = batch.number, rows = batch.rows.len(), gas_used, "redeem batch confirmed");
        self.reached(Point::Batch(batch.number, State::Confirmed))
    }

    fn refuse_batch(&self, batch: &BatchRecord, problem: String) -> Result<()> {
        let attempts = batch.progress.attempt + 1;
        if attempts >= MAX_ATTEMPTS {
            return Err(Error::Refused { what: format!("redeem batch {}", batch.number), attempts, problem });
        }
        tracing::warn!(batch = batch.number, attempts, problem, "redeeming was refused; sending it again");
        let now_ms = self.now_ms();
        self.ledger.advance_batch(batch.number, State::Submitted, Event::Refuse, now_ms, |_| (), |_| ())?;
        self.reached(Point::Batch(batch.number, State::Signed))
    }

    /// After a start or a roll-back: what each lane has paid by the chain, not by memory.
    async fn read_lanes_anew(&self, block: u64) -> Result<()> {
        for lane in self.ledger.lanes()?.iter().filter(|lane| lane.claim.is_some()) {
            let paid = self.books.lane_paid(lane.channel, lane.model, block).await?;
            if paid != lane.paid_units {
                self.ledger.set_lane_paid(lane.channel, lane.model, paid)?;
            }
        }
        Ok(())
    }
}

impl LaneRecord {
    /// What the lane's claim asks above what it is known to have paid, in base units.
    pub fn owed_units(&self) -> u128 {
        let claimed = self.claim.as_ref().map_or(0, |row| row.claim.cumulative_pico);
        target_units(claimed).saturating_sub(self.paid_units)
    }
}

/// The ledger's memory of the chain, with deposits taken as ample.
fn remembered(lanes: &[LaneRecord]) -> ChannelBooks {
    let mut books = ChannelBooks::default();
    for lane in lanes {
        let ample = ChannelFunds { deposit_units: u128::MAX, paid_units: 0 };
        books.channels.insert(lane.channel, ample);
        books.lanes.insert((lane.channel, lane.model), lane.paid_units);
    }
    books
}
