//! Windows: read, signed, posted in order, confirmed at finality.

use crate::books::{Books, Fate, Heights};
use crate::claims;
use crate::error::PostedDiffers;
use crate::plan;
use crate::records::{WindowKey, WindowRecord};
use crate::seals::row_hash;
use crate::settler::{Point, Settler};
use crate::transitions::{Event, State};
use crate::{Error, Result};

/// Attempts after which a transaction that keeps reverting is left to a person.
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// Windows posted in one turn at most, so that a long backlog does not keep batches waiting.
const MAX_POSTED_PER_TURN: usize = 64;

impl<B: Books> Settler<B> {
    /// Takes in every seal that was written since the last turn.
    pub(super) fn read_seals(&mut self) -> Result<()> {
        let journal = match self.journal {
            Some(journal) => journal,
            None => match self.seals.journal()? {
                Some(journal) => *self.journal.insert(journal),
                None => return Ok(()),
            },
        };
        let cursor = self.ledger.journals()?.into_iter().find(|(known, _)| *known == journal);
        let mut next = cursor.map_or(0, |(_, cursor)| cursor.next);
        while let Some(seal) = self.seals.read(next, &self.operator.deployment)? {
            let key = seal.key;
            if key.journal != journal {
                // The gateway began a new journal: its windows are read from the first one in the next turn.
                self.journal = None;
                return Ok(());
            }
            self.ledger.take_in(seal, self.now_ms())?;
            tracing::info!(window = key.window, journal = %key.journal, "seal taken in");
            self.reached(Point::Window(key, State::Sealed))?;
            next += 1;
        }
        Ok(())
    }

    /// Signs and publishes the claims of windows that have none yet, and publishes again what a kill may have cut off.
    pub(super) fn sign_windows(&mut self) -> Result<()> {
        for record in self.open_windows()? {
            let key = record.key;
            let record = match record.state() {
                State::Sealed => {
                    let domain = self.operator.deployment.voucher_domain();
                    let rows = claims::sign(&record, &self.operator.key, &domain)?;
                    let signed = self.ledger.advance_window(
                        key,
                        State::Sealed,
                        Event::Sign,
                        self.now_ms(),
                        |window| {
                            window.claims = rows;
                        },
                    )?;
                    self.reached(Point::Window(key, State::Signed))?;
                    signed
                }
                State::Signed | State::Submitted => record,
                State::Confirmed => continue,
            };
            if !self.published.contains(&key) {
                claims::publish(&self.paths.claims, &record, self.operator.deployment.voucher_domain())?;
                self.reached(Point::Published(key))?;
                self.published.insert(key);
            }
        }
        Ok(())
    }

    /// Brings each journal's windows forward, in order: what is final is confirmed, the next one is posted.
    pub(super) async fn post_windows(&mut self, heights: Heights) -> Result<()> {
        for (journal, cursor) in self.ledger.journals()? {
            let posted = self.books.next_window(journal, heights.finalized).await?;
            self.roll_back(WindowKey { journal, window: posted }, cursor.unconfirmed)?;
            let mined = self.books.next_window(journal, heights.head).await?;
            let from = cursor.unconfirmed.min(posted);
            for record in self.ledger.windows_from(journal, from)?.into_iter().take(MAX_POSTED_PER_TURN) {
                if !self.published.contains(&record.key) {
                    // Its claims come first; the step that publishes them has said what is wrong.
                    break;
                }
                let is_final = record.key.window < posted;
                if is_final {
                    self.confirm_window(record, heights.finalized).await?;
                } else if record.key.window >= mined {
                    // A window goes out when the one before it is mined: it could only be reverted earlier.
                    self.submit_window(record, heights, mined).await?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends again what the chain lost below its finality. Cumulative totals make the repetition harmless.
    fn roll_back(&mut self, posted: WindowKey, unconfirmed: u64) -> Result<()> {
        if posted.window >= unconfirmed {
            return Ok(());
        }
        self.lanes_fresh = false;
        for record in self.ledger.windows_from(posted.journal, posted.window)? {
            if record.state() == State::Confirmed {
                tracing::error!(key = %record.key, "the chain lost a window that was final; posting it again");
                self.ledger.advance_window(
                    record.key,
                    State::Confirmed,
                    Event::RollBack,
                    self.now_ms(),
                    |_| (),
                )?;
                self.reached(Point::Window(record.key, State::Signed))?;
            }
        }
        Ok(())
    }

    async fn confirm_window(&self, record: WindowRecord, finalized: u64) -> Result<()> {
        let key = record.key;
        for row in &record.rows {
            let (on_chain, sealed) = (self.books.posted_row(key, row.model, finalized).await?, row_hash(row));
            if on_chain != sealed {
                return Err(Error::PostedDiffers(Box::new(PostedDiffers {
                    key,
                    model: row.model,
                    on_chain,
                    sealed,
                })));
            }
        }
        let mut gas_used = 0;
        for intent in plan::post_seal(&record) {
            if let Fate::Done { gas_used: gas, .. } = self.books.fate(&intent.id).await? {
                gas_used += gas;
            }
        }
        if record.state() == State::Signed {
            // Posted under a ledger that was lost: nothing is left to send.
            self.ledger.advance_window(key, State::Signed, Event::Submit, self.now_ms(), |_| ())?;
            self.reached(Point::Window(key, State::Submitted))?;
        }
        self.ledger.advance_window(key, State::Submitted, Event::Confirm, self.now_ms(), |window| {
            window.gas_used = gas_used;
        })?;
        tracing::info!(%key, gas_used, "window confirmed");
        self.reached(Point::Window(key, State::Confirmed))
    }

    async fn submit_window(&self, record: WindowRecord, heights: Heights, mined: u64) -> Result<()> {
        let key = record.key;
        if key.window != mined {
            return Err(Error::SealGap { found: key, expected: mined });
        }
        let record = if record.state() == State::Signed {
            for row in &record.rows {
                if !self.books.knows_model(row.model, heights.head).await? {
                    return Err(Error::UnknownModel(row.model.to_string()));
                }
            }
            let submitted =
                self.ledger.advance_window(key, State::Signed, Event::Submit, self.now_ms(), |_| ())?;
            self.reached(Point::Window(key, State::Submitted))?;
            submitted
        } else {
            record
        };
        self.send_chunks(&record).await
    }

    /// Sends the window's transactions one after the other: were the last mined without the one before it, it would end
    /// the window without that one's rows.
    async fn send_chunks(&self, record: &WindowRecord) -> Result<()> {
        for intent in plan::post_seal(record) {
            self.books.submit(&intent).await?;
            self.reached(Point::Sent(intent.id.clone()))?;
            match self.books.fate(&intent.id).await? {
                Fate::Done { .. } => (),
                Fate::Pending | Fate::Unknown => return Ok(()),
                Fate::Failed { problem } => return self.refuse_window(record, problem),
            }
        }
        let WindowKey { journal, window } = record.key;
        let finalized = self.books.heights().await?.finalized;
        if self.books.next_window(journal, finalized).await? > window {
            return Ok(());
        }
        self.refuse_window(record, "the chain no longer holds its transactions".into())
    }

    fn refuse_window(&self, record: &WindowRecord, problem: String) -> Result<()> {
        let attempts = record.progress.attempt + 1;
        if attempts >= MAX_ATTEMPTS {
            return Err(Error::Refused { what: record.key.to_string(), attempts, problem });
        }
        tracing::warn!(key = %record.key, attempts, problem, "posting was refused; planning it again");
        self.ledger.advance_window(record.key, State::Submitted, Event::Refuse, self.now_ms(), |_| ())?;
        self.reached(Point::Window(record.key, State::Signed))
    }

    fn open_windows(&self) -> Result<Vec<WindowRecord>> {
        let mut open = Vec::new();
        for (journal, cursor) in self.ledger.journals()? {
            open.extend(self.ledger.windows_from(journal, cursor.unconfirmed)?);
        }
        Ok(open)
    }
}
