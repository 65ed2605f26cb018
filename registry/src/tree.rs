//! A model's lineage as a tree, for people.

use std::collections::HashSet;

use crate::{ModelId, Result, Snapshot};

/// Ancestors deeper than this are not drawn; the table still pays them.
const MAX_DEPTH: usize = 64;

/// A node of the tree: a model and, below it, its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageTree {
    /// The model or ancestor.
    pub model: ModelId,
    /// Its weight among the parents of the node above, in ppm; all at the root.
    pub weight_ppm: u32,
    /// Its part of the root's royalty over all paths, in ppm; 0 if its row was dropped.
    pub share_ppm: u32,
    /// Parents in listed order; none where the node is drawn elsewhere in the tree already, or too deep.
    pub parents: Vec<LineageTree>,
    /// Whether parents were left out.
    pub cut: bool,
}

/// The lineage of `model`. A node that is met again, as in a diamond, is drawn with its parents only once.
///
/// # Errors
/// [`crate::Error::UnknownModel`].
pub fn tree(snapshot: &Snapshot, model: ModelId) -> Result<LineageTree> {
    let root = snapshot.require(model)?;
    let share = |node: ModelId| root.rows.iter().find(|row| row.node == node).map_or(0, |row| row.share_ppm);
    let mut drawn = HashSet::new();
    Ok(draw(snapshot, model, 1_000_000, 0, &share, &mut drawn))
}

fn draw(
    snapshot: &Snapshot,
    model: ModelId,
    weight_ppm: u32,
    depth: usize,
    share: &impl Fn(ModelId) -> u32,
    drawn: &mut HashSet<ModelId>,
) -> LineageTree {
    let parents = snapshot.model(model).map_or(&[][..], |view| &view.parents);
    let cut = !parents.is_empty() && (!drawn.insert(model) || depth >= MAX_DEPTH);
    let parents = match cut {
        true => Vec::new(),
        false => parents
            .iter()
            .map(|parent| draw(snapshot, parent.model, parent.weight_ppm, depth + 1, share, drawn))
            .collect(),
    };
    LineageTree { model, weight_ppm, share_ppm: share(model), parents, cut }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::snapshot::tests::{id, model};
    use crate::{BlockRef, EscrowView, ParentView};

    fn snapshot(models: Vec<crate::ModelView>) -> Snapshot {
        let escrow = EscrowView::default();
        Snapshot::fixture(BlockRef::default(), Instant::now(), models, Vec::new(), Vec::new(), escrow)
    }

    #[test]
    fn a_diamond_is_drawn_once_and_a_long_line_is_cut() {
        let with = |n, parents: &[u8]| {
            let parents = parents.iter().map(|p| ParentView { model: id(*p), weight_ppm: 1_000 }).collect();
            crate::ModelView { parents, ..model(n) }
        };
        let diamond = snapshot(vec![model(1), with(2, &[1]), with(3, &[2]), with(4, &[2, 3])]);
        let drawn = tree(&diamond, id(4)).unwrap();
        assert_eq!(drawn.parents[0].parents[0].model, id(1));
        let again = &drawn.parents[1].parents[0];
        assert_eq!((again.model, again.cut, again.parents.len()), (id(2), true, 0));
        assert!(tree(&diamond, id(9)).is_err());

        let line = snapshot((1..=200).map(|n| if n == 1 { model(1) } else { with(n, &[n - 1]) }).collect());
        let mut depth = 0;
        let mut node = &tree(&line, id(200)).unwrap();
        while let Some(parent) = node.parents.first() {
            (node, depth) = (parent, depth + 1);
        }
        assert_eq!((depth, node.cut), (MAX_DEPTH, true));
    }
}
