//! Aggregates in Redis.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `dividend:{<journal>}:window:<n>` | hash | `fence`, and a field per payer and model |
//! | `dividend:{<journal>}:windows` | set | numbers of the windows above |
//! | `dividend:journals` | set | journal ids |
//!
//! A publication is a script with **one** writing command. Redis logs a script of several as MULTI … EXEC, and an AOF
//! whose tail is torn inside it replays half of it one restart later; a single HSET is there whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use alloy::primitives::B256;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, Client, RedisError, Script};

use super::rows::{field, parse_field, parse_value, value};
use super::{Aggregate, AggregateStore, Fence, Published, StoreError, WindowKey};
use crate::Totals;
use crate::ledger::RowKey;

const FENCE: &str = "fence";
const JOURNALS: &str = "dividend:journals";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// ARGV: the expected fence (empty for none), then the fields and values to set, the new fence among them. Answers the
/// fence it found, which says whether anything was set.
const PUBLISH: &str = "\
local found = redis.call('HGET', KEYS[1], 'fence') or ''
if found == ARGV[1] then redis.call('HSET', KEYS[1], unpack(ARGV, 2)) end
return found";

/// A Redis server. It connects when first needed, and anew after any failure.
pub struct RedisStore {
    client: Client,
    name: String,
    connection: Option<MultiplexedConnection>,
    publish: Script,
}

impl RedisStore {
    /// A store at `redis://HOST:PORT/DB` or `redis+unix:///PATH`. Does not connect yet.
    ///
    /// # Errors
    /// [`StoreError`] if the URL is none of Redis.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let client = Client::open(url).map_err(|error| StoreError {
            store: "redis".into(),
            problem: format!("{error}; expected redis://HOST:PORT or redis+unix:///PATH"),
        })?;
        // Without the URL's password.
        let name = format!("redis at {}", client.get_connection_info().addr());
        Ok(Self { client, name, connection: None, publish: Script::new(PUBLISH) })
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, StoreError> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(REPLY_TIMEOUT));
        let opened = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = opened.map_err(|error| self.failed(error.to_string()))?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Passes an answer on; after an error, which may be a broken connection, the next command connects anew.
    fn answered<T>(&mut self, answer: Result<T, RedisError>) -> Result<T, StoreError> {
        answer.map_err(|error| {
            self.connection = None;
            self.failed(error.to_string())
        })
    }

    fn failed(&self, problem: String) -> StoreError {
        StoreError { store: self.name.clone(), problem }
    }

    fn parse_fence(&self, key: WindowKey, text: &str) -> Result<Fence, StoreError> {
        text.parse()
            .map_err(|_| self.failed(format!("{} has a fence {text:?}, expected an offset", window_key(key))))
    }

    fn parse_windows(&self, journal: &str, windows: Vec<u64>) -> Result<Vec<WindowKey>, StoreError> {
        let journal: B256 = journal.parse().map_err(|_| {
            self.failed(format!("{JOURNALS} holds {journal:?}, expected 0x and 64 hex digits"))
        })?;
        Ok(windows.into_iter().map(|window| WindowKey { journal, window }).collect())
    }
}

impl AggregateStore for RedisStore {
    async fn publish(
        &mut self,
        key: WindowKey,
        expected: Option<Fence>,
        rows: &[(RowKey, Totals)],
        fence: Fence,
    ) -> Result<Published, StoreError> {
        let mut connection = self.connect().await?;
        let expected = expected.map_or(String::new(), |fence| fence.to_string());
        let mut call = self.publish.key(window_key(key));
        call.arg(&expected).arg(FENCE).arg(fence.to_string());
        for (row, totals) in rows {
            call.arg(field(row)).arg(value(totals));
        }
        let answer: Result<String, RedisError> = call.invoke_async(&mut connection).await;
        drop(call);
        let found = self.answered(answer)?;
        match found.as_str() {
            found if found == expected => Ok(Published::Done),
            "" => Ok(Published::Other(None)),
            found => self.parse_fence(key, found).map(|found| Published::Other(Some(found))),
        }
    }

    async fn fence(&mut self, key: WindowKey) -> Result<Option<Fence>, StoreError> {
        let mut connection = self.connect().await?;
        let answer = connection.hget(window_key(key), FENCE).await;
        let found: Option<String> = self.answered(answer)?;
        found.map(|found| self.parse_fence(key, &found)).transpose()
    }

    async fn read(&mut self, key: WindowKey) -> Result<Option<Aggregate>, StoreError> {
        let mut connection = self.connect().await?;
        let answer = connection.hgetall(window_key(key)).await;
        let mut fields: HashMap<String, String> = self.answered(answer)?;
        let Some(fence) = fields.remove(FENCE) else { return Ok(None) };
        let fence = self.parse_fence(key, &fence)?;
        let mut rows = BTreeMap::new();
        for (name, text) in fields {
            let (Some(row), Some(totals)) = (parse_field(&name), parse_value(&text)) else {
                return Err(self.failed(format!(
                    "{} has a field {name:?} of {text:?}, which is no row",
                    window_key(key)
                )));
            };
            if totals.calls > 0 {
                rows.insert(row, totals);
            }
        }
        Ok(Some(Aggregate { fence, rows }))
    }

    async fn announce(&mut self, key: WindowKey) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        let answer: Result<(), _> = connection.sadd(JOURNALS, key.journal.to_string()).await;
        self.answered(answer)?;
        let answer = connection.sadd(windows_key(key.journal), key.window).await;
        self.answered(answer)
    }

    async fn windows(&mut self) -> Result<Vec<WindowKey>, StoreError> {
        let mut connection = self.connect().await?;
        let answer = connection.smembers(JOURNALS).await;
        let journals: Vec<String> = self.answered(answer)?;
        let mut keys = Vec::new();
        for journal in journals {
            let answer = connection.smembers(format!("dividend:{{{journal}}}:windows")).await;
            let windows: Vec<u64> = self.answered(answer)?;
            keys.extend(self.parse_windows(&journal, windows)?);
        }
        keys.sort();
        Ok(keys)
    }

    async fn retire(&mut self, key: WindowKey) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        let answer: Result<(), _> = connection.unlink(window_key(key)).await;
        self.answered(answer)?;
        let answer = connection.srem(windows_key(key.journal), key.window).await;
        self.answered(answer)
    }
}

fn window_key(key: WindowKey) -> String {
    format!("dividend:{{{}}}:window:{}", key.journal, key.window)
}

fn windows_key(journal: B256) -> String {
    format!("dividend:{{{journal}}}:windows")
}
