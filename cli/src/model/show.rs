//! `dividend model show`.

use dividend_registry::{LineageTree, ModelId, ModelView, Snapshot};
use serde::Serialize;

use crate::access::Access;
use crate::args::Global;
use crate::output::answer;
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A model id, a track, or `track@n` for a track's n-th champion.
    model: String,
}

/// A model with its lineage.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    model: ModelView,
    tree: Branch,
}

/// A node of the lineage, with who is paid for it.
#[derive(Serialize)]
struct Branch {
    model: ModelId,
    /// Its weight among its child's parents, in ppm; all for the model itself.
    weight_ppm: u32,
    /// Its part of the royalty of the model that is shown, over all paths, in ppm; 0 for a share too small to keep.
    share_ppm: u32,
    /// Who is paid, and with which part of the share, in ppm.
    payees: Vec<(String, u32)>,
    /// Whether parents were left out, because they are drawn at an earlier place.
    cut: bool,
    parents: Vec<Branch>,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let snapshot =
            runtime::on_this_thread(async { Access::open(&home, &settings.chain).await?.snapshot().await })?;
        let model = snapshot.resolve(&self.model)?;
        let tree = Branch::new(&snapshot, dividend_registry::tree(&snapshot, model.id)?);
        answer(global, &Shown { model: ModelView::clone(model), tree }, text)
    }
}

impl Branch {
    fn new(snapshot: &Snapshot, tree: LineageTree) -> Self {
        let slots = snapshot.model(tree.model).map(|model| model.slots.iter());
        Self {
            model: tree.model,
            weight_ppm: tree.weight_ppm,
            share_ppm: tree.share_ppm,
            payees: slots
                .into_iter()
                .flatten()
                .map(|slot| (slot.payee.to_string(), slot.share_ppm))
                .collect(),
            cut: tree.cut,
            parents: tree.parents.into_iter().map(|parent| Self::new(snapshot, parent)).collect(),
        }
    }
}

fn text(shown: &Shown) -> String {
    let model = &shown.model;
    let head = format!(
        "model    {}\nartifact {}\nroyalty  {} of every call's price\ninherits {} of it from its parents\n\n",
        model.id,
        model.artifact_digest,
        percent(model.royalty_ppm),
        percent(model.inherit_ppm),
    );
    head + &lines(&shown.tree, "", "")
}

/// The branch and those below it; `first` leads its own line, `rest` those of its parents.
fn lines(branch: &Branch, first: &str, rest: &str) -> String {
    let short: String = branch.model.to_string().chars().take(12).collect();
    let payees: Vec<String> =
        branch.payees.iter().map(|(payee, ppm)| format!("{payee} {}", percent(*ppm))).collect();
    let again = if branch.cut { " (see above)" } else { "" };
    let share = percent(branch.share_ppm);
    let mut text = format!("{first}{short}… {share} of the royalty → {}{again}\n", payees.join(", "));
    for (index, parent) in branch.parents.iter().enumerate() {
        let is_last = index + 1 == branch.parents.len();
        let (corner, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        text += &lines(parent, &format!("{rest}{corner}"), &format!("{rest}{below}"));
    }
    text
}

/// Ppm as percent, without a rounding: 123456 is 12.3456 %.
fn percent(ppm: u32) -> String {
    let fraction = format!("{:04}", ppm % 10_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction} %", ppm / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_exact() {
        let shown: Vec<String> = [0, 1, 123_456, 500_000, 1_000_000].into_iter().map(percent).collect();
        assert_eq!(shown, ["0 %", "0.0001 %", "12.3456 %", "50 %", "100 %"]);
    }

    #[test]
    fn branches_are_drawn_below_their_child() {
        let branch = |byte, cut, parents| Branch {
            model: ModelId([byte; 32]),
            weight_ppm: 1_000_000,
            share_ppm: 250_000,
            payees: vec![("0x02".to_owned(), 1_000_000)],
            cut,
            parents,
        };
        let middle = branch(3, false, vec![branch(1, false, Vec::new())]);
        let top = branch(9, false, vec![middle, branch(4, true, Vec::new())]);
        let drawn: Vec<String> =
            lines(&top, "", "").lines().map(|line| line.chars().take(9).collect()).collect();
        assert_eq!(drawn, ["0x0909090", "├─ 0x0303", "│  └─ 0x0", "└─ 0x0404"]);
        assert_eq!(lines(&top, "", "").matches("(see above)").count(), 1);
    }
}
