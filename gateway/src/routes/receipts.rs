//! A call's receipt, and after its window's seal the proof that it was counted.

use std::sync::Arc;

use dividend_meter::sumtree::Node;
use dividend_meter::{CallId, CallRecord, InclusionProof, MeterError, Payer};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::admission::Authenticated;
use crate::answer::json;
use crate::body::Body;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::receipt::{ReceiptView, prefixed};

#[derive(Serialize)]
struct ReceiptAnswer {
    object: &'static str,
    id: String,
    /// "pending" until the window is sealed, then "sealed".
    status: &'static str,
    reason: &'static str,
    closed_at_ms: u64,
    receipt: ReceiptView,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<ProofView>,
}

/// The way from the receipt's leaf to the root that was sealed: `leaf = (keccak256(0x00 ‖ struct hash), charge)`, and
/// the sibling at each level, until `root` comes out.
#[derive(Serialize)]
struct ProofView {
    /// Place among the window's calls of this model and kind of payer.
    index: u64,
    leaves: u64,
    siblings: Vec<SiblingView>,
    root: NodeView,
}

#[derive(Serialize)]
struct SiblingView {
    left: bool,
    #[serde(flatten)]
    node: NodeView,
}

#[derive(Serialize)]
struct NodeView {
    hash: String,
    #[serde(with = "crate::pico")]
    sum_pico: u128,
}

impl From<Node> for NodeView {
    fn from(node: Node) -> Self {
        Self { hash: prefixed(node.hash.as_slice()), sum_pico: node.sum_pico }
    }
}

impl From<InclusionProof> for ProofView {
    fn from(proof: InclusionProof) -> Self {
        let sibling = |sibling: &dividend_meter::sumtree::Sibling| SiblingView {
            left: sibling.left,
            node: Node { hash: sibling.hash, sum_pico: sibling.sum_pico }.into(),
        };
        Self {
            index: proof.index,
            leaves: proof.leaves,
            siblings: proof.siblings.iter().map(sibling).collect(),
            root: proof.root.into(),
        }
    }
}

/// `GET /v1/receipts/{id}`. The id is 74 random bits; the answer names no payer, and only a call's own API key is shown
/// the salt that would.
pub(super) async fn show(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    // A channel is no secret, and neither are its vouchers: they prove nothing here.
    let asker = Authenticated::of(gateway, headers).ok();
    let asker = asker.and_then(|asker| Some(asker.key()?.payer()));
    let call: CallId = id.parse().map_err(|_| not_found(id))?;
    let _permit = gateway.proofs.acquire().await.map_err(ApiError::internal)?;
    let reader = gateway.clone();
    let read = tokio::task::spawn_blocking(move || look_up(&reader, call, asker));
    let answer = read.await.map_err(ApiError::internal)?;
    match answer {
        Ok(answer) => Ok(json(StatusCode::OK, &answer)),
        Err(MeterError::UnknownCall(_)) => Err(not_found(id)),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// Reads the journal; tens of milliseconds for a large window.
fn look_up(gateway: &Gateway, call: CallId, asker: Option<Payer>) -> Result<ReceiptAnswer, MeterError> {
    let record: CallRecord = gateway.meter.call(call)?;
    let (receipt, signature) = gateway.meter.sign_receipt(&record)?;
    let proof: Option<ProofView> = match gateway.meter.proof(call) {
        Ok(proof) => Some(proof.into()),
        Err(MeterError::NotSealed { .. }) => None,
        Err(error) => return Err(error),
    };
    let deployment = gateway.meter.deployment();
    let salt = Some(&record.salt.0).filter(|_| asker == Some(record.payer));
    Ok(ReceiptAnswer {
        object: "receipt",
        id: call.to_string(),
        status: if proof.is_some() { "sealed" } else { "pending" },
        reason: record.reason.as_str(),
        closed_at_ms: record.at_ms,
        receipt: ReceiptView::new(&receipt, salt, &deployment, &signature),
        proof,
    })
}

fn not_found(id: &str) -> ApiError {
    ApiError::NotFound { what: "receipt", id: id.chars().take(64).collect() }
}
