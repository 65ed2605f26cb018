//! Waits until a child answers, or has ended instead.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Ports;
use super::supervise::{State, Supervised};
use crate::failure::Failure;

/// How often a child that starts is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What shows that a child is ready.
#[derive(Debug, Clone)]
pub(super) enum Probe {
    /// Redis answers PING.
    Redis(u16),
    /// The chain tells its id.
    Rpc(u16),
    /// `GET` of this URL answers 200.
    Http(String),
}

/// Waits until `child` answers.
///
/// # Errors
/// A [`Failure`] with the end of the child's log if it ends first or `limit` passes.
pub(super) async fn until_ready(
    child: &mut Supervised,
    probe: &Probe,
    limit: Duration,
) -> anyhow::Result<()> {
    let client = crate::http::client(ANSWER_WITHIN)?;
    let mut state = child.state.clone();
    let ended = async {
        // The sender lives as long as the child is supervised.
        let down = state.wait_for(|state| matches!(state, State::Down(_))).await;
        match down.as_deref() {
            Ok(State::Down(why)) => why.clone(),
            _ => "was given up".to_owned(),
        }
    };
    let why = tokio::select! {
        () = until_answer(&client, probe) => return Ok(()),
        why = ended => why,
        () = tokio::time::sleep(limit) => format!("did not answer within {} s", limit.as_secs()),
    };
    let message = format!("{} {why}{}", child.name, child.said.quote());
    Err(Failure::new(message, "correct what its log says and start again").into())
}

/// Waits until whatever is asked answers.
pub(super) async fn until_answer(client: &reqwest::Client, probe: &Probe) {
    let mut again = interval(ASK_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        let answered = match probe {
            Probe::Redis(port) => matches!(timeout(ANSWER_WITHIN, pings(*port)).await, Ok(Ok(true))),
            Probe::Rpc(port) => knows_its_id(client, *port).await,
            Probe::Http(url) => client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
        };
        if answered {
            return;
        }
    }
}

async fn pings(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(Ports::address(port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG\r\n")
}

async fn knows_its_id(client: &reqwest::Client, port: u16) -> bool {
    let question = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
    let answer = client.post(format!("http://{}", Ports::address(port))).json(&question).send().await;
    match answer {
        Ok(answer) => {
            answer.json::<serde_json::Value>().await.is_ok_and(|answer| answer["result"].is_string())
        }
        Err(_) => false,
    }
}
