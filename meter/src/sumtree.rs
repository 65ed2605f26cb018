//! Merkle-sum trees: a root commits to every leaf and to the sum of their amounts, so that an operator cannot post a sum
//! that leaves a call out without the call's holder being able to show it.
//!
//! `leaf = (keccak256(0x00 ‖ EIP-712 struct hash of the Receipt), charge)`,
//! `inner = (keccak256(0x01 ‖ left hash ‖ left sum: uint128 ‖ right hash ‖ right sum: uint128), left sum + right sum)`,
//! integers big-endian as Solidity packs them. An odd node at the end of a level rises unchanged; no leaves at all give
//! `(0, 0)`.

use alloy::primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// A node: a hash and the sum of the amounts below it, in pico-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Commits to the leaves below.
    pub hash: B256,
    /// Their sum.
    pub sum_pico: u128,
}

/// The other child on the way from a leaf to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sibling {
    /// Whether it is the left child.
    pub left: bool,
    /// Its hash.
    pub hash: B256,
    /// Its sum.
    pub sum_pico: u128,
}

/// The sum of a tree does not fit 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum of the leaves exceeds 2^128 - 1 pico-dollars")]
pub struct SumOverflow;

/// The leaf of a receipt.
pub fn leaf(receipt_struct_hash: B256, charge_pico: u128) -> Node {
    let mut bytes = [0; 33];
    bytes[1..].copy_from_slice(receipt_struct_hash.as_slice());
    Node { hash: keccak256(bytes), sum_pico: charge_pico }
}

/// The root over `leaves`.
///
/// # Errors
/// [`SumOverflow`].
pub fn root(leaves: &[Node]) -> Result<Node, SumOverflow> {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = next_level(&level)?;
    }
    Ok(level.first().copied().unwrap_or_default())
}

/// The siblings from leaf `index` up to the root.
///
/// # Errors
/// [`SumOverflow`].
///
/// # Panics
/// If there is no such leaf.
pub fn proof(leaves: &[Node], index: usize) -> Result<Vec<Sibling>, SumOverflow> {
    assert!(index < leaves.len(), "leaf {index} of {}", leaves.len());
    let (mut level, mut index, mut siblings) = (leaves.to_vec(), index, Vec::new());
    while level.len() > 1 {
        if let Some(node) = level.get(index ^ 1) {
            siblings.push(Sibling { left: index % 2 == 1, hash: node.hash, sum_pico: node.sum_pico });
        }
        level = next_level(&level)?;
        index /= 2;
    }
    Ok(siblings)
}

/// The root that a leaf and its siblings lead to.
///
/// # Errors
/// [`SumOverflow`].
pub fn climb(leaf: Node, siblings: &[Sibling]) -> Result<Node, SumOverflow> {
    siblings.iter().try_fold(leaf, |node, sibling| {
        let other = Node { hash: sibling.hash, sum_pico: sibling.sum_pico };
        if sibling.left { parent(&other, &node) } else { parent(&node, &other) }
    })
}

fn next_level(level: &[Node]) -> Result<Vec<Node>, SumOverflow> {
    let pairs = level.chunks(2);
    pairs.map(|pair| if let [left, right] = pair { parent(left, right) } else { Ok(pair[0]) }).collect()
}

fn parent(left: &Node, right: &Node) -> Result<Node, SumOverflow> {
    let mut bytes = [0; 97];
    bytes[0] = 1;
    bytes[1..33].copy_from_slice(left.hash.as_slice());
    bytes[33..49].copy_from_slice(&left.sum_pico.to_be_bytes());
    bytes[49..81].copy_from_slice(right.hash.as_slice());
    bytes[81..97].copy_from_slice(&right.sum_pico.to_be_bytes());
    let sum_pico = left.sum_pico.checked_add(right.sum_pico).ok_or(SumOverflow)?;
    Ok(Node { hash: keccak256(bytes), sum_pico })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Node> {
        (0..count).map(|index| leaf(B256::with_last_byte(index as u8), 10 + index as u128)).collect()
    }

    #[test]
    fn nothing_has_the_empty_root() {
        assert_eq!(root(&[]), Ok(Node { hash: B256::ZERO, sum_pico: 0 }));
    }

    #[test]
    fn an_odd_node_rises_unchanged() {
        let [a, b, c] = leaves(3).try_into().unwrap();
        assert_eq!(root(&[a, b, c]), parent(&parent(&a, &b).unwrap(), &c));
    }

    #[test]
    fn a_sum_past_128_bits_is_an_error() {
        assert_eq!(root(&[leaf(B256::ZERO, u128::MAX), leaf(B256::ZERO, 1)]), Err(SumOverflow));
    }

    proptest! {
        #[test]
        fn every_leaf_is_proved_and_no_other_amount(count in 1usize..70, pick in any::<prop::sample::Index>(), more in 1u128..99) {
            let leaves = leaves(count);
            let index = pick.index(count);
            let siblings = proof(&leaves, index).unwrap();
            let top = root(&leaves).unwrap();
            prop_assert_eq!(climb(leaves[index], &siblings).unwrap(), top);
            prop_assert_eq!(top.sum_pico, leaves.iter().map(|leaf| leaf.sum_pico).sum::<u128>());
            let forged = Node { sum_pico: leaves[index].sum_pico + more, ..leaves[index] };
            prop_assert_ne!(climb(forged, &siblings).unwrap(), top);
        }
    }
}
