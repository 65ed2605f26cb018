//! A call in flight: what it owns, how it is counted, and the ways in which it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dividend_engine::{FinishReason, GenerationError, TokenLogprobs, ToolFormat};
use dividend_meter::{CallGuard, CallId, CloseReason, Closed, MeterError, Usage};
use http::HeaderMap;
use http::header::HeaderValue;
use tokio::time::{Instant, Sleep};

use crate::account::{Hold, Permit};
use crate::backend::{Event, Generation};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::openai::ToolReader;
use crate::payment::PaymentResponse;
use crate::queue::Place;
use crate::receipt::ReceiptView;

/// Names the call from the answer's first byte on, so that an interrupted answer can be looked up.
const RECEIPT_HEADER: &str = "dividend-receipt";

/// A call between its OPEN and its CLOSE.
///
/// Dropped before its end, for whatever reason, it is closed all the same. The fields are dropped in this order:
/// computing stops, the guard writes CLOSE, and only then money, place and permit are freed, so that nobody is let in
/// on money that is about to be charged.
pub(crate) struct Call {
    answering: Option<Answering>,
    /// Why the choices ended that have.
    ends: Vec<FinishReason>,
    cached_tokens: u64,
    state: State,
    hold: Option<Hold>,
    place: Option<Place>,
    permit: Option<Permit>,
    gateway: Arc<Gateway>,
    id: CallId,
    payment: Option<PaymentResponse>,
    began: Instant,
    spoke: bool,
    deadline: Pin<Box<Sleep>>,
    limit_ms: u64,
}

/// The answers being computed for a call.
pub(crate) struct Answering {
    pub generation: Box<dyn Generation>,
    /// How many answers there are.
    pub choices: usize,
    /// How calls of tools are written in them, if there may be any.
    pub tools: Option<ToolFormat>,
}

enum State {
    Running(CallGuard),
    /// CLOSE is written; the promised durability may still be waited for.
    Closing(Closing),
    Ended,
}

struct Closing {
    /// The choice that ended last, and why.
    ending: Result<(usize, FinishReason), ApiError>,
    durable: Pin<Box<dyn Future<Output = Result<Closed, MeterError>> + Send>>,
}

/// What comes next of an answer.
pub(crate) enum Step {
    /// More text of a choice; already counted in `usage`.
    Text { choice: usize, text: String, logprobs: Vec<TokenLogprobs>, usage: Usage },
    /// All vectors.
    Vectors(Vec<Vec<f32>>),
    /// The end of a choice while others go on.
    Ended { choice: usize, reason: FinishReason, usage: Usage },
    /// The end of all; already in the journal.
    End(Box<Ending>),
}

/// How an answer ended.
pub(crate) enum Ending {
    /// Complete, with its receipt; the last choice's end has not been told before.
    Finished { choice: usize, reason: FinishReason, receipt: ReceiptView, cached_tokens: u64 },
    /// Not complete. What was generated until then is charged.
    Failed(ApiError),
}

impl Call {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        answering: Answering,
        guard: CallGuard,
        hold: Hold,
        place: Place,
        permit: Permit,
        payment: Option<PaymentResponse>,
    ) -> Self {
        let limit_ms = gateway.settings.load().gateway.request_timeout_ms;
        gateway.metrics.calls_in_flight.inc();
        Self {
            ends: Vec::with_capacity(answering.choices),
            answering: Some(answering),
            cached_tokens: 0,
            id: guard.id(),
            state: State::Running(guard),
            hold: Some(hold),
            place: Some(place),
            permit: Some(permit),
            gateway,
            payment,
            began: Instant::now(),
            spoke: false,
            deadline: Box::pin(tokio::time::sleep(Duration::from_millis(limit_ms))),
            limit_ms,
        }
    }

    /// What finds calls of tools in the answers' text.
    pub(crate) fn tool_reader(&self) -> ToolReader {
        let (tools, choices) =
            self.answering.as_ref().map_or((None, 0), |answering| (answering.tools, answering.choices));
        ToolReader::new(tools, choices)
    }

    pub(crate) fn id(&self) -> CallId {
        self.id
    }

    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::try_from(self.id.to_string()) {
            headers.insert(RECEIPT_HEADER, id);
        }
        if let Some(payment) = &self.payment {
            payment.write_header(headers);
        }
    }

    /// The next step. Tokens are counted before their text is handed out; CLOSE is in the journal before the end is.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match &mut self.state {
                // Looked at on every step: a client that reads slowly must not outlast the call's hold.
                State::Running(_) if self.deadline.as_mut().poll(cx).is_ready() => {
                    self.close(Err(ApiError::CallTimeout { limit_ms: self.limit_ms }));
                }
                State::Running(guard) => {
                    let guard: &CallGuard = guard;
                    let Some(answering) = &mut self.answering else {
                        self.close(Err(ApiError::internal("a call runs without a generation")));
                        continue;
                    };
                    match std::task::ready!(answering.generation.poll_event(cx)) {
                        Some(Event::Prefilled(tokens)) => guard.prefilled(narrow(tokens)),
                        Some(Event::Text { choice, text, tokens, logprobs }) => {
                            guard.generated(narrow(tokens));
                            let usage = guard.usage();
                            self.note_first_token();
                            return Poll::Ready(Step::Text { choice, text, logprobs, usage });
                        }
                        Some(Event::Vectors(vectors)) => return Poll::Ready(Step::Vectors(vectors)),
                        Some(Event::Finished { choice, reason, cached_tokens }) => {
                            if choice == 0 {
                                self.cached_tokens = cached_tokens as u64;
                            }
                            self.ends.push(reason);
                            if self.ends.len() < answering.choices {
                                let usage = guard.usage();
                                return Poll::Ready(Step::Ended { choice, reason, usage });
                            }
                            self.close(Ok((choice, reason)));
                        }
                        Some(Event::Failed(error)) => {
                            let failure = self.failure(error);
                            self.close(Err(failure));
                        }
                        None => {
                            let detail = "the backend fell silent".to_owned();
                            self.close(Err(ApiError::Generation { detail }));
                        }
                    }
                }
                State::Closing(closing) => {
                    let closed = std::task::ready!(closing.durable.as_mut().poll(cx));
                    return Poll::Ready(Step::End(Box::new(self.end(closed))));
                }
                State::Ended => return Poll::Pending,
            }
        }
    }

    /// The next step, as a future.
    pub(crate) async fn step(&mut self) -> Step {
        std::future::poll_fn(|cx| self.poll_step(cx)).await
    }

    fn note_first_token(&mut self) {
        if !self.spoke {
            self.spoke = true;
            self.gateway.metrics.first_token.observe(self.began.elapsed().as_secs_f64());
        }
    }

    /// What the caller is told of an answer that was not completed.
    fn failure(&self, error: GenerationError) -> ApiError {
        match error {
            // The engine's own deadline is the call's.
            GenerationError::Expired { .. } | GenerationError::ExpiredWaiting => {
                ApiError::CallTimeout { limit_ms: self.limit_ms }
            }
            GenerationError::Constraint(error) => ApiError::FormLost { detail: error.to_string() },
            error => ApiError::Generation { detail: error.to_string() },
        }
    }

    /// Stops computing and writes CLOSE.
    fn close(&mut self, ending: Result<(usize, FinishReason), ApiError>) {
        self.answering = None;
        let State::Running(guard) = std::mem::replace(&mut self.state, State::Ended) else { return };
        self.settle(&guard);
        let reason = match &ending {
            Ok(_) if self.ends.contains(&FinishReason::Length) => CloseReason::Length,
            Ok(_) => CloseReason::Stop,
            Err(ApiError::CallTimeout { .. }) => CloseReason::Cancelled,
            Err(_) => CloseReason::Error,
        };
        let closed = guard.close(reason);
        let durable = Box::pin(async move {
            let mut closed = closed?;
            closed.durable().await?;
            Ok(closed)
        });
        self.state = State::Closing(Closing { ending, durable });
    }

    fn end(&mut self, closed: Result<Closed, MeterError>) -> Ending {
        let State::Closing(closing) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ending::Failed(ApiError::internal("a call ended twice"));
        };
        // The charge is in the totals by now: what was held for it is free.
        self.hold = None;
        self.place = None;
        self.permit = None;
        let deployment = self.gateway.meter.deployment();
        let receipt = closed.and_then(|closed| ReceiptView::sign(&closed, &deployment));
        let ending = match (closing.ending, receipt) {
            (Ok((choice, reason)), Ok(receipt)) => {
                Ending::Finished { choice, reason, receipt, cached_tokens: self.cached_tokens }
            }
            (Ok(_), Err(error)) => Ending::Failed(ApiError::internal(error)),
            (Err(error), _) => Ending::Failed(error),
        };
        let outcome = match &ending {
            Ending::Finished { .. } => "finished",
            Ending::Failed(error) => error.code().unwrap_or("internal"),
        };
        self.gateway.metrics.call_ended(outcome, self.began.elapsed());
        ending
    }

    /// Notes what the call has used, for the bucket of tokens and for the metrics.
    fn settle(&mut self, guard: &CallGuard) {
        let usage = guard.usage();
        if let Some(hold) = &mut self.hold {
            hold.use_tokens(u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens));
        }
        self.gateway.metrics.tokens_used(usage);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.gateway.metrics.calls_in_flight.dec();
        self.answering = None;
        if let State::Running(guard) = std::mem::replace(&mut self.state, State::Ended) {
            self.settle(&guard);
            let usage = guard.usage();
            drop(guard);
            self.gateway.metrics.call_ended("client_gone", self.began.elapsed());
            tracing::info!(call = %self.id, status = 499, ?usage, "the client left before the answer's end");
        }
    }
}

fn narrow(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
