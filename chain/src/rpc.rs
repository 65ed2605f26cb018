//! JSON-RPC over several endpoints: a request that one cannot answer goes to the next, and every failure is typed as
//! retryable or final.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bloom, BloomInput, Bytes, U64, U128, U256};
use alloy::rpc::client::{ClientBuilder, RpcClient};
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use alloy::rpc::types::{Block, Filter, TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::{RpcError, TransportError};
use dividend_config::{Chain, Finality};
use serde::{Deserialize, Serialize};

use crate::{Error, Log, Result, revert};

/// Longest piece of a node's message that an error repeats.
const MAX_SHOWN: usize = 400;

/// A block's header, as far as following needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hash of the block before it.
    pub parent: B256,
    /// The block's own clock, unix seconds.
    pub timestamp_s: u64,
}

/// Which block a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest block.
    Latest,
    /// The newest block that the chain calls final.
    Finalized,
    /// The canonical block of this height.
    Number(u64),
}

impl At {
    fn tag(self) -> String {
        match self {
            Self::Latest => "latest".into(),
            Self::Finalized => "finalized".into(),
            Self::Number(number) => format!("{number:#x}"),
        }
    }
}

/// A header with the block's bloom filter and base fee.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub head: Head,
    pub base_fee_wei: u128,
    bloom: Bloom,
}

impl Header {
    /// Whether the block may hold a log of one of the addresses; `false` is certain.
    pub fn may_log(&self, addresses: &[Address]) -> bool {
        addresses.iter().any(|a| self.bloom.contains_input(BloomInput::Raw(a.as_slice())))
    }
}

/// Fees per gas that the chain asks for now, in wei.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fees {
    pub base_wei: u128,
    pub tip_wei: u128,
}

/// A connection to one chain through one or more endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rpc {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last; asked first next time.
    preferred: AtomicUsize,
    timeout: Duration,
}

#[derive(Debug)]
struct Endpoint {
    url: String,
    client: RpcClient,
}

impl Rpc {
    /// Prepares connections to `rpc_urls`; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`] for a URL that is not http or https, or if there is none.
    pub fn connect(settings: &Chain) -> Result<Self> {
        install_tls();
        let timeout = Duration::from_millis(settings.rpc_timeout_ms);
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Error::BadEndpoint { url: settings.rpc_urls.join(", "), problem: e.to_string() })?;
        let endpoints =
            settings.rpc_urls.iter().map(|url| endpoint(url, &http)).collect::<Result<Vec<_>>>()?;
        if endpoints.is_empty() {
            return Err(Error::BadEndpoint { url: String::new(), problem: "none is configured".into() });
        }
        Ok(Self { inner: Arc::new(Inner { endpoints, preferred: AtomicUsize::new(0), timeout }) })
    }

    /// EIP-155 chain id.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn chain_id(&self) -> Result<u64> {
        Ok(self.request::<_, U64>("eth_chainId", ()).await?.to())
    }

    /// The header of a block, if the chain has it.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn head(&self, at: At) -> Result<Option<Head>> {
        Ok(self.header(at).await?.map(|header| header.head))
    }

    pub(crate) async fn header(&self, at: At) -> Result<Option<Header>> {
        let block: Option<Block> = self.request("eth_getBlockByNumber", (at.tag(), false)).await?;
        Ok(block.map(|block| Header {
            head: Head {
                number: block.header.number,
                hash: block.header.hash,
                parent: block.header.parent_hash,
                timestamp_s: block.header.timestamp,
            },
            base_fee_wei: block.header.base_fee_per_gas.unwrap_or(0).into(),
            bloom: block.header.logs_bloom,
        }))
    }

    /// Calls a view function at the newest block.
    ///
    /// # Errors
    /// [`Error::Reverted`] with the contract's reason, [`Error::Refused`] for an answer of the wrong shape, and as
    /// [`Rpc::request`].
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return> {
        self.call_at(to, call, At::Latest).await
    }

    /// Calls a view function at a block.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub async fn call_at<C: SolCall>(&self, to: Address, call: &C, at: At) -> Result<C::Return> {
        let request = TransactionRequest::default().to(to).input(call.abi_encode().into());
        let output: Bytes = self.request("eth_call", (request, at.tag())).await?;
        C::abi_decode_returns(&output).map_err(|e| Error::Refused {
            endpoint: self.preferred_url(),
            method: format!("eth_call {}", C::SIGNATURE),
            problem: format!("{} returned {} bytes that do not decode: {e}", to, output.len()),
        })
    }

    /// Height up to which blocks are final; 0 if the node does not know of any.
    pub(crate) async fn final_height(&self, finality: Finality) -> Result<u64> {
        match finality {
            Finality::Finalized => Ok(self.head(At::Finalized).await?.map_or(0, |head| head.number)),
            Finality::Depth(depth) => {
                let newest = self.head(At::Latest).await?.ok_or_else(|| self.missing("latest block"))?;
                Ok(newest.number.saturating_sub(depth))
            }
        }
    }

    /// The code at an address; empty if there is none.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn code(&self, address: Address) -> Result<Bytes> {
        self.request("eth_getCode", (address, "latest")).await
    }

    /// Native coin of an account, in wei.
    ///
    /// # Errors
    /// As [`Rpc::request`].
    pub async fn balance_wei(&self, account: Address) -> Result<U256> {
        self.request("eth_getBalance", (account, "latest")).await
    }

    pub(crate) async fn nonce(&self, account: Address, at: At) -> Result<u64> {
        Ok(self.request::<_, U64>("eth_getTransactionCount", (account, at.tag())).await?.to())
    }

    /// Estimated on the block to come, where the transaction will run.
    pub(crate) async fn estimate_gas(&self, request: &TransactionRequest) -> Result<u64> {
        Ok(self.request::<_, U64>("eth_estimateGas", (request.clone(), "pending")).await?.to())
    }

    pub(crate) async fn replay(&self, request: &TransactionRequest, at: At) -> Result<Bytes> {
        self.request("eth_call", (request.clone(), at.tag())).await
    }

    pub(crate) async fn fees(&self) -> Result<Fees> {
        let header = self.header(At::Latest).await?.ok_or_else(|| self.missing("latest block"))?;
        let tip: U128 = self.request("eth_maxPriorityFeePerGas", ()).await?;
        Ok(Fees { base_wei: header.base_fee_wei, tip_wei: tip.to() })
    }

    pub(crate) async fn send_raw(&self, raw: &Bytes) -> Result<B256> {
        self.request("eth_sendRawTransaction", (raw.clone(),)).await
    }

    pub(crate) async fn receipt(&self, transaction: B256) -> Result<Option<TransactionReceipt>> {
        self.request("eth_getTransactionReceipt", (transaction,)).await
    }

    /// Logs of a range of heights, in order.
    pub(crate) async fn logs_between(&self, addresses: &[Address], from: u64, to: u64) -> Result<Vec<Log>> {
        let filter = Filter::new().address(addresses.to_vec()).from_block(from).to_block(to);
        let logs: Vec<alloy::rpc::types::Log> = self.request("eth_getLogs", (filter,)).await?;
        let logs = self.understood(logs)?;
        match logs.iter().find(|log| log.block_number < from || log.block_number > to) {
            Some(stray) => {
                Err(self.refused(format!("log of block {} outside {from}..={to}", stray.block_number)))
            }
            None => Ok(logs),
        }
    }

    /// Logs of exactly this block. A node that knows the block only from a fork it left may answer "none"; the
    /// block's receipts are asked then, because its bloom filter says that there may be some.
    pub(crate) async fn logs_of(&self, addresses: &[Address], block: Head) -> Result<Vec<Log>> {
        let filter = Filter::new().address(addresses.to_vec()).at_block_hash(block.hash);
        let mut logs: Vec<alloy::rpc::types::Log> = self.request("eth_getLogs", (filter,)).await?;
        if logs.is_empty() {
            let receipts: Option<Vec<TransactionReceipt>> =
                self.request("eth_getBlockReceipts", (format!("{:#x}", block.number),)).await?;
            let all = receipts.unwrap_or_default().into_iter().flat_map(|r| r.inner.logs().to_vec());
            logs = all.filter(|log| addresses.contains(&log.inner.address)).collect();
        }
        let logs = self.understood(logs)?;
        match logs.iter().find(|log| log.block_hash != block.hash) {
            Some(stray) => {
                let (number, hash, now) = (block.number, block.hash, stray.block_hash);
                Err(self.unsettled(format!("block {number} changed from {hash} to {now}")))
            }
            None => Ok(logs),
        }
    }

    fn understood(&self, logs: Vec<alloy::rpc::types::Log>) -> Result<Vec<Log>> {
        let mut logs = logs
            .into_iter()
            .map(|log| Log::from_rpc(log).ok_or_else(|| self.refused("a removed or pending log".into())))
            .collect::<Result<Vec<_>>>()?;
        logs.sort_by_key(|log| (log.block_number, log.index));
        Ok(logs)
    }

    /// Sends one JSON-RPC request, to each endpoint in turn until one answers.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none answers in time, [`Error::Reverted`] if the EVM reverted, [`Error::Refused`] if
    /// a node answered with another error.
    pub async fn request<P: RpcSend + Clone + 'static, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R> {
        let count = self.inner.endpoints.len();
        let first = self.inner.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for step in 0..count {
            let index = (first + step) % count;
            let endpoint = &self.inner.endpoints[index];
            let answer = endpoint.client.request::<P, R>(method, params.clone());
            let failure = match tokio::time::timeout(self.inner.timeout, answer).await {
                Ok(Ok(value)) => {
                    self.inner.preferred.store(index, Ordering::Relaxed);
                    return Ok(value);
                }
                Ok(Err(error)) => classify(&endpoint.url, method, error),
                Err(_) => Error::Unreachable {
                    endpoint: endpoint.url.clone(),
                    problem: format!("no answer to {method} within {} ms", self.inner.timeout.as_millis()),
                },
            };
            if !failure.is_retryable() {
                return Err(failure);
            }
            if count > 1 {
                tracing::warn!(endpoint = endpoint.url, method, error = %failure, "asking the next endpoint");
            }
            last = Some(failure);
        }
        Err(last.unwrap_or_else(|| self.refused("no endpoint".into())))
    }

    /// How many endpoints there are.
    pub(crate) fn endpoints(&self) -> usize {
        self.inner.endpoints.len()
    }

    /// Asks another endpoint first from now on, because the present one lags behind.
    pub(crate) fn prefer_next(&self) {
        let next = (self.inner.preferred.load(Ordering::Relaxed) + 1) % self.inner.endpoints.len();
        self.inner.preferred.store(next, Ordering::Relaxed);
    }

    fn preferred_url(&self) -> String {
        self.inner.endpoints[self.inner.preferred.load(Ordering::Relaxed)].url.clone()
    }

    /// A retryable error: the answer of the preferred endpoint cannot be used now.
    pub(crate) fn unsettled(&self, problem: String) -> Error {
        Error::Unreachable { endpoint: self.preferred_url(), problem }
    }

    pub(crate) fn missing(&self, what: &str) -> Error {
        self.unsettled(format!("the node has no {what}"))
    }

    fn refused(&self, problem: String) -> Error {
        Error::Refused { endpoint: self.preferred_url(), method: "eth_getLogs".into(), problem }
    }
}

fn endpoint(url: &str, http: &reqwest::Client) -> Result<Endpoint> {
    let bad = |problem: &str| Error::BadEndpoint { url: url.into(), problem: problem.into() };
    let parsed: reqwest::Url = url.parse().map_err(|_| bad("is not a URL"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad("is neither http nor https"));
    }
    let client = ClientBuilder::default().http_with_client(http.clone(), parsed);
    Ok(Endpoint { url: url.into(), client })
}

/// rustls takes one cryptographic provider per process; whoever comes first chooses, and every part chooses ring.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another part installed its provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn classify(endpoint: &str, method: &'static str, error: TransportError) -> Error {
    let endpoint = endpoint.to_owned();
    match error {
        RpcError::ErrorResp(payload) => {
            if let Some(data) = payload.as_revert_data() {
                return Error::Reverted(revert::reason(&data));
            }
            let problem = shown(&payload.message);
            if payload.is_retry_err() {
                return Error::Unreachable { endpoint, problem };
            }
            if method == "eth_call" && payload.message.contains("revert") {
                return Error::Reverted(problem);
            }
            if is_about_missing_state(&payload.message) {
                return Error::StateUnavailable { endpoint, method: method.into(), problem };
            }
            Error::Refused { endpoint, method: method.into(), problem }
        }
        RpcError::Transport(problem) => Error::Unreachable { endpoint, problem: shown(&problem.to_string()) },
        other => Error::Unreachable { endpoint, problem: shown(&other.to_string()) },
    }
}

/// Whether a node says that it has no state for a block. There is no error code for it: these are the words of anvil, geth,
/// erigon and reth.
fn is_about_missing_state(message: &str) -> bool {
    let message = message.to_lowercase();
    ["blockoutofrange", "missing trie node", "header not found", "historical state", "pruned"]
        .iter()
        .any(|words| message.contains(words))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use alloy::rpc::json_rpc::ErrorPayload;

    use super::*;

    fn classified(message: &str) -> Error {
        let payload = ErrorPayload { code: -32_000, message: message.to_owned().into(), data: None };
        classify("http://node", "eth_call", RpcError::ErrorResp(payload))
    }

    #[test]
    fn a_block_whose_state_is_gone_is_asked_for_again_later_and_nothing_else_is() {
        for message in [
            "BlockOutOfRangeError: block height is 23 but requested was 21",
            "missing trie node 1234 (path )",
            "historical state 0x12 is not available",
        ] {
            assert!(classified(message).is_retryable(), "{message}");
        }
        assert!(matches!(classified("invalid argument 0"), Error::Refused { .. }));
    }
}
