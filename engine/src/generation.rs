//! The receiving end of one request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::scheduler::Ticket;
use crate::{Event, GenerationError};

/// The answers to one request, as it is made: a stream of [`Event`]s.
///
/// The engine never waits for the reader; what it is ahead by is bounded by the request's `max_tokens`.
/// Dropping a `Generation` cancels it: a waiting request gives up its place at once, a running one before
/// its next step.
#[derive(Debug)]
pub struct Generation {
    events: UnboundedReceiver<Event>,
    /// Choices that have not finished.
    open: usize,
    _ticket: Ticket,
}

impl Generation {
    pub(crate) fn new(events: UnboundedReceiver<Event>, choices: usize, ticket: Ticket) -> Self {
        Self { events, open: choices, _ticket: ticket }
    }

    /// The next event; `None` after `Failed` or the last `Finished`. Safe to use in `select!`: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// The next event, for callers outside an async runtime. Panics inside one.
    pub fn blocking_next(&mut self) -> Option<Event> {
        if self.open == 0 {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.note(event))
    }

    /// The next event, for hand-written futures.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.open == 0 {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(context));
        Poll::Ready(Some(self.note(event)))
    }

    /// A channel that closes without a last event means that the scheduler died: the reader is told.
    fn note(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or(Event::Failed(GenerationError::Stopped));
        match event {
            Event::Finished { .. } => self.open -= 1,
            // The other choices' computation stops as well.
            Event::Failed(_) => {
                self.open = 0;
                self.events.close();
            }
            _ => {}
        }
        event
    }
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(context)
    }
}
