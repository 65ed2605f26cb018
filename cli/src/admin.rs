//! `serve`'s admin API, with the token of the home.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::args::Global;
use crate::failure::{Failure, OrFail};
use crate::home::{self, Home};
use crate::settings;
use crate::stack::Endpoints;

/// A seal reads the whole window back.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A client of the admin API.
pub(crate) struct Admin {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Admin {
    /// The admin API of the home: that of its running stack, or the one in its settings.
    pub(crate) fn of(global: &Global) -> anyhow::Result<Self> {
        let home = global.home()?;
        let base = match home::read_json::<Endpoints>(&home.endpoints())? {
            Some(running) => running.admin,
            None => format!("http://{}", settings::load(global, &home)?.gateway.admin_listen),
        };
        Self::at(&home, base)
    }

    /// The admin API at `base`, with the token of `home`.
    pub(crate) fn at(home: &Home, base: String) -> anyhow::Result<Self> {
        let file = home.admin_token();
        let remedy = format!("start a stack: dividend up --home {}", home.root().display());
        let token = std::fs::read_to_string(&file)
            .or_fail(format!("no admin token in {}", file.display()), remedy)?;
        Ok(Self { client: crate::http::client(ANSWER_WITHIN)?, base, token: token.trim().to_owned() })
    }

    /// Asks for something.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// Has something made or done.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Has something changed.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Has something ended.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = self.client.request(method, &url).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let unreachable = "start it with `dividend up`, or correct gateway.admin_listen";
        let answer =
            request.send().await.or_fail(format!("serve does not answer at {}", self.base), unreachable)?;
        let status = answer.status();
        let body: Value =
            answer.json().await.with_context(|| format!("{url} answered {status} without JSON"))?;
        if status.is_success() {
            return Ok(body);
        }
        let said = body["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
        Err(Failure::new(said, format!("see what was asked for: {path}")).into())
    }
}
