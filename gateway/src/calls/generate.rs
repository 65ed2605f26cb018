//! The request path of a generating call, from its head to its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::stream::StreamBody;
use super::{Call, Ending, Step};
use crate::account::Rates;
use crate::admission::Authenticated;
use crate::answer::{answer, json_bytes};
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::layers::{BodyError, read_all};
use crate::openai::{
    Ask, ChatRequest, Choice, ChunkWriter, CompletionRequest, EmbeddingRequest, Identity, Shape, Usage,
    embeddings, full_answer, parse,
};

/// Reads a request body of one endpoint.
pub(crate) type Parse = fn(&[u8]) -> Result<Ask, ApiError>;

/// `/v1/chat/completions`.
pub(crate) fn parse_chat(body: &[u8]) -> Result<Ask, ApiError> {
    parse::<ChatRequest>(body)?.into_ask()
}

/// `/v1/embeddings`.
pub(crate) fn parse_embedding(body: &[u8]) -> Result<Ask, ApiError> {
    parse::<EmbeddingRequest>(body)?.into_ask()
}

/// `/v1/completions`.
pub(crate) fn parse_completion(body: &[u8]) -> Result<Ask, ApiError> {
    parse::<CompletionRequest>(body)?.into_ask()
}

/// Answers a generating call; refusals carry the caller's limits too, as far as they are known.
pub(crate) async fn generate<B>(gateway: &Arc<Gateway>, head: Parts, body: B, parse: Parse) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send,
{
    let mut rates = None;
    let mut response = match serve(gateway, head, body, parse, &mut rates).await {
        Ok(response) => response,
        Err(error) => answer(&error),
    };
    if let Some(rates) = rates {
        rates.write(response.headers_mut());
    }
    response
}

/// authenticate → admit → route → reserve → open → infer → close.
async fn serve<B>(
    gateway: &Arc<Gateway>,
    head: Parts,
    body: B,
    parse: Parse,
    rates: &mut Option<Rates>,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes, Error = BodyError> + Send,
{
    let caller = Authenticated::of(gateway, &head.headers)?;
    let account = caller.account().clone();
    let admitted = caller.admit(gateway).inspect_err(|error| {
        if let ApiError::Requests { retry_ms, .. } = error {
            *rates = Some(account.rates_of_refused(gateway.clock.monotonic_ms(), *retry_ms));
        }
    })?;
    *rates = Some(admitted.rates());
    refuse_encoded(&head.headers)?;
    let ask = parse(&read_all(body).await?)?;
    let routed = admitted.route(gateway, &ask.model)?;
    let choices = ask.query.choices;
    let prepared = routed.prepare(ask.query).await?;
    let reserved = routed.reserve(gateway, prepared, ask.max_tokens)?;
    *rates = Some(reserved.rates());
    let call = reserved.open(gateway).await?;
    tracing::debug!(call = %call.id(), model = %ask.model, stream = ask.stream, user = ask.user, "opened");

    let id = call.id().to_string();
    let created_s = gateway.clock.unix_ms() / 1_000;
    let identity = Identity { shape: ask.shape, call: &id, created_s, model: &ask.model };
    if ask.stream {
        Ok(streamed(call, ChunkWriter::new(&identity, ask.stream_usage, choices)))
    } else {
        whole(call, &identity, choices).await
    }
}

/// A body that is compressed is refused by name, not taken for malformed JSON.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes())) {
        Some(found) if !found.eq_ignore_ascii_case("identity") => {
            Err(ApiError::ContentEncoding { found: found.chars().take(64).collect() })
        }
        _ => Ok(()),
    }
}

fn streamed(call: Call, writer: ChunkWriter) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    call.write_headers(&mut headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Told to reverse proxies that would gather the events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let mut response = Response::new(Body::stream(StreamBody::new(call, writer)));
    *response.headers_mut() = headers;
    response
}

/// Gathers the whole answer. Dropped when the client leaves, and with it the call.
async fn whole(mut call: Call, identity: &Identity<'_>, choices: usize) -> Result<Response<Body>, ApiError> {
    let mut answers: Vec<Choice> = (0..choices).map(|_| Choice::default()).collect();
    let mut vectors = Vec::new();
    let mut tools = call.tool_reader();
    let ending = loop {
        match call.step().await {
            Step::Text { choice, text, logprobs, .. } => {
                tools
                    .push(identity.call, choice, text)
                    .into_iter()
                    .for_each(|part| answers[choice].add(part));
                answers[choice].logprobs.extend(logprobs);
            }
            Step::Vectors(all) => vectors = all,
            Step::Ended { choice, reason, .. } => {
                answers[choice].end(&mut tools, identity.call, choice, reason)
            }
            Step::End(ending) => break *ending,
        }
    };
    let mut response = match ending {
        Ending::Finished { choice, reason, receipt, cached_tokens } => {
            if let Some(answer) = answers.get_mut(choice) {
                answer.end(&mut tools, identity.call, choice, reason);
            }
            let bytes = match identity.shape {
                Shape::Embedding(encoding) => embeddings(identity.model, encoding, &vectors, receipt),
                Shape::Chat | Shape::Text => {
                    full_answer(identity, &answers, Usage::of(receipt, cached_tokens))
                }
            };
            json_bytes(StatusCode::OK, bytes)
        }
        // With its call's id: what was generated until then was charged.
        Ending::Failed(error) => answer(&error),
    };
    call.write_headers(response.headers_mut());
    Ok(response)
}
