//! A model's ancestry as a tree that can be read from top to bottom.

use std::collections::BTreeSet;

use dividend_registry::{ModelId, ModelView, Snapshot};
use serde::Serialize;

use crate::figures::Names;

/// Deepest generation drawn.
const MAX_DEPTH: usize = 64;
/// Most nodes drawn; the flattened table, which pays, never has more than 32 rows.
const MAX_NODES: usize = 256;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The model.
    pub id: ModelId,
    /// Its name for people.
    pub name: String,
    /// "base", "fork" or "patch"; "unknown" for an ancestor that the snapshot lacks.
    pub kind: &'static str,
    /// Weight among its siblings' parents, in ppm; 1_000_000 for the model itself.
    pub weight_ppm: u32,
    /// Its part of the royalty of the model at the root, in ppm.
    pub share_ppm: u32,
    /// Whether the node was drawn before: a diamond. Its parents are drawn there.
    pub seen: bool,
    /// What it descends from.
    pub parents: Vec<Node>,
}

/// The ancestry of `model`, the model itself first. Every node is expanded once, so that a lattice of diamonds stays as
/// small as its graph.
pub fn tree(model: &ModelView, snapshot: &Snapshot, names: &Names) -> Node {
    let mut drawing = Drawing { root: model, snapshot, names, drawn: BTreeSet::new(), nodes: 0 };
    drawing.node(model.id, 1_000_000, 0)
}

struct Drawing<'a> {
    root: &'a ModelView,
    snapshot: &'a Snapshot,
    names: &'a Names,
    drawn: BTreeSet<ModelId>,
    nodes: usize,
}

impl Drawing<'_> {
    fn node(&mut self, id: ModelId, weight_ppm: u32, depth: usize) -> Node {
        self.nodes += 1;
        let seen = !self.drawn.insert(id);
        let model = self.snapshot.model(id);
        let share_ppm = self.root.rows.iter().find(|row| row.node == id).map_or(0, |row| row.share_ppm);
        let mut parents = Vec::new();
        if let Some(model) = model.filter(|_| !seen && depth < MAX_DEPTH) {
            for parent in &model.parents {
                if self.nodes < MAX_NODES {
                    parents.push(self.node(parent.model, parent.weight_ppm, depth + 1));
                }
            }
        }
        let kind = model.map_or("unknown", |model| crate::figures::kind(model.kind));
        Node { id, name: self.names.of(id), kind, weight_ppm, share_ppm, seen, parents }
    }
}
