//! Royalty that was posted but not paid for want of escrow: paid as soon as somebody tops the escrow up.

use std::collections::BTreeSet;

use alloy::primitives::B256;

use crate::Result;
use crate::books::{Books, Heights};
use crate::plan;
use crate::settler::{Point, Report, Settler};

impl<B: Books> Settler<B> {
    /// Reports the escrow, and pays the models that are owed if it holds anything.
    pub(super) async fn pay_owed(&self, heights: Heights, report: &mut Report) -> Result<()> {
        let escrow = self.books.escrow(heights.finalized).await?;
        report.escrow_units = escrow.balance_units;
        report.owed_units = escrow.owed_units;
        if !report.can_pay_owed() {
            return Ok(());
        }
        for model in self.posted_models()? {
            let lane = self.books.prepaid_lane(model, heights.finalized).await?;
            if lane.owed_units > 0 {
                // The id is the state that it answers: the same state is answered once, a new one anew.
                let intent = plan::settle_owed(model, lane, escrow);
                self.books.submit(&intent).await?;
                self.reached(Point::Sent(intent.id))?;
            }
        }
        Ok(())
    }

    fn posted_models(&self) -> Result<BTreeSet<B256>> {
        let mut models = BTreeSet::new();
        for (journal, _) in self.ledger.journals()? {
            for window in self.ledger.windows_from(journal, 0)? {
                models.extend(window.rows.iter().map(|row| row.model));
            }
        }
        Ok(models)
    }
}
