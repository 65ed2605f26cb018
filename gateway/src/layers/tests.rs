//! Each layer in front of a mock, without a socket.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::util::MapErr;
use tower::{Layer, ServiceExt};
use tower_test::mock::{self, Handle, Mock};

use super::{BodyLimits, CatchPanic, LimitedBody, Shed, Trace, read_all};
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::sample;

type Plain = Request<Full<Bytes>>;
type Never = fn(tower::BoxError) -> Infallible;
type Mocked<R> = MapErr<Mock<R, Response<Body>>, Never>;

fn request(method: &str) -> Plain {
    let builder = Request::builder().method(method).uri("/v1/chat/completions");
    builder.body(Full::new(Bytes::from_static(b"12345"))).expect("a request")
}

fn mocked<R>() -> (Mocked<R>, Handle<R, Response<Body>>) {
    let (mock, handle) = mock::pair();
    let never: Never = |error| panic!("the mock failed: {error}");
    (mock.map_err(never), handle)
}

async fn text(response: Response<Body>) -> String {
    let Ok(body) = response.into_body().collect().await;
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

#[tokio::test]
async fn body_limits_arm_the_body_with_the_settings_in_force() {
    let (gateway, _dir) = sample(|settings| settings.gateway.max_body_bytes = 4);
    let (mock, mut handle) = mocked::<Request<LimitedBody<Full<Bytes>>>>();
    let answered = tokio::spawn(BodyLimits::new(gateway).layer(mock).oneshot(request("POST")));
    let (inner, send) = handle.next_request().await.expect("it refuses nothing itself");
    let read = read_all(inner.into_body()).await;
    assert!(matches!(read, Err(ApiError::BodyTooLarge { limit: 4 })), "{read:?}");
    send.send_response(Response::new(Body::full("")));
    assert!(answered.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn a_panic_is_answered_and_says_nothing() {
    let (mock, mut handle) = mocked::<Plain>();
    let answered = tokio::spawn(CatchPanic.layer(mock).oneshot(request("POST")));
    let (_, send) = handle.next_request().await.expect("passed on");
    // The mock's error becomes a panic of the inner service.
    send.send_error("the secret of the house");
    let Ok(response) = answered.await.expect("caught");
    assert_eq!(response.status(), 500);
    assert!(!text(response).await.contains("secret"));
}

#[tokio::test]
async fn calls_are_shed_when_full_and_counted_until_their_body_is_gone() {
    // Seven eighths of eight connections.
    let (gateway, _dir) = sample(|settings| settings.gateway.max_connections = 8);
    let (mock, mut handle) = mocked::<Plain>();
    let service = Shed::new(gateway.clone()).layer(mock);
    let mut held = Vec::new();
    for _ in 0..7 {
        let answered = tokio::spawn(service.clone().oneshot(request("POST")));
        let (_, send) = handle.next_request().await.expect("there is room");
        send.send_response(Response::new(Body::full("x")));
        held.push(answered.await.expect("no panic"));
    }
    assert_eq!(gateway.in_flight(), 7);
    let Ok(refused) = service.clone().oneshot(request("POST")).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()),
        (503, b"1" as &[u8])
    );
    let reading = tokio::spawn(service.clone().oneshot(request("GET")));
    let (_, send) = handle.next_request().await.expect("reading is not shed");
    send.send_response(Response::new(Body::full("x")));
    drop(reading.await);
    held.pop();
    assert_eq!(gateway.in_flight(), 6);
    gateway.drain();
    let Ok(refused) = service.oneshot(request("POST")).await;
    assert!(text(refused).await.contains("draining"));
}

#[tokio::test]
async fn every_answer_is_counted_by_route_and_status() {
    let (gateway, _dir) = sample(|_| {});
    let (mock, mut handle) = mocked::<Plain>();
    let answered = tokio::spawn(Trace::new(Arc::clone(&gateway)).layer(mock).oneshot(request("POST")));
    let (_, send) = handle.next_request().await.expect("passed on");
    let mut response = Response::new(Body::full(""));
    *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
    send.send_response(response);
    assert!(answered.await.expect("no panic").is_ok());
    let metrics = gateway.metrics.scrape(&gateway).expect("text");
    let line = r#"dividend_requests_total{route="/v1/chat/completions",status="418"} 1"#;
    assert!(String::from_utf8_lossy(&metrics).contains(line));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_a_499() {
    let (gateway, _dir) = sample(|_| {});
    let (mock, mut handle) = mocked::<Plain>();
    let answered = tokio::spawn(Trace::new(Arc::clone(&gateway)).layer(mock).oneshot(request("POST")));
    let (_, _never) = handle.next_request().await.expect("passed on");
    answered.abort();
    assert!(answered.await.is_err_and(|error| error.is_cancelled()));
    let metrics = gateway.metrics.scrape(&gateway).expect("text");
    let line = r#"dividend_requests_total{route="/v1/chat/completions",status="499"} 1"#;
    assert!(String::from_utf8_lossy(&metrics).contains(line));
}
