//! The pages' templates and the pieces of HTML that they share.

use std::borrow::Borrow;
use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::figures::{Contributor, ModelPage, Names, Overview};
use crate::format::Money;
use crate::lineage::Node;

/// `/`
#[derive(Template)]
#[template(path = "overview.html")]
pub(crate) struct OverviewPage<'a> {
    pub(crate) view: &'a Overview,
}

/// `/contributors/{address}`
#[derive(Template)]
#[template(path = "contributor.html")]
pub(crate) struct ContributorPage<'a> {
    pub(crate) view: &'a Contributor,
}

/// `/models/{id}`
#[derive(Template)]
#[template(path = "model.html")]
pub(crate) struct ModelTemplate<'a> {
    pub(crate) view: &'a ModelPage,
}

/// What could not be shown, and why.
#[derive(Template)]
#[template(path = "problem.html")]
pub(crate) struct ProblemPage<'a> {
    pub(crate) title: &'a str,
    pub(crate) message: &'a str,
}

/// One node of the lineage with the nodes above it.
#[derive(Template)]
#[template(path = "node.html")]
pub(crate) struct NodeHtml<'a> {
    node: &'a Node,
    is_root: bool,
}

impl<'a> NodeHtml<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, is_root: true }
    }

    pub(crate) fn parent(node: &'a Node) -> Self {
        Self { node, is_root: false }
    }
}

impl ContributorPage<'_> {
    fn name(&self, id: &dividend_registry::ModelId) -> String {
        let fallback = || Names::default().of(*id);
        self.view.names.get(id).cloned().unwrap_or_else(fallback)
    }

    /// Accrued and not yet credited, in base units.
    fn pending_units(&self) -> u128 {
        let amounts = &self.view.earnings.amounts;
        amounts.accrued_units.saturating_sub(amounts.credited_units)
    }

    fn progress(&self) -> Progress {
        let amounts = &self.view.earnings.amounts;
        Progress {
            parts: [
                ("claimed", amounts.claimed_units),
                ("claimable", amounts.claimable_units),
                ("pending", self.pending_units()),
            ],
        }
    }
}

/// Pieces of HTML made of digits and fixed words only: safe by construction.
macro_rules! html_safe {
    ($($piece:ty),+) => { $(impl HtmlSafe for $piece {})+ };
}
html_safe!(MoneyHtml, Bar, Progress);

/// An amount with its small change dimmed.
pub(crate) struct MoneyHtml(Money);

impl fmt::Display for MoneyHtml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"money\">{}<small>{}</small></span>", self.0.cents(), self.0.small_change())
    }
}

/// An amount in base units.
pub(crate) fn money(units: impl Borrow<u128>) -> MoneyHtml {
    MoneyHtml(Money::units(*units.borrow()))
}

/// An amount in pico-dollars, down to base units.
pub(crate) fn money_pico(pico: impl Borrow<u128>) -> MoneyHtml {
    MoneyHtml(Money::pico(*pico.borrow()))
}

/// A bar as long as a share.
pub(crate) struct Bar {
    share_ppm: u32,
}

/// The bar of a share in ppm.
pub(crate) fn bar(share_ppm: impl Borrow<u32>) -> Bar {
    Bar { share_ppm: *share_ppm.borrow() }
}

/// The bar of a share of 10¹².
pub(crate) fn bar_e12(share_e12: impl Borrow<u64>) -> Bar {
    let share_ppm = u32::try_from(*share_e12.borrow() / 1_000_000).unwrap_or(u32::MAX);
    Bar { share_ppm }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Widths are attributes of SVG, which the content policy allows; a style attribute it would not.
        write!(
            f,
            "<svg class=\"bar\" viewBox=\"0 0 1000000 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"track\" width=\"1000000\" height=\"1\"/><rect class=\"share\" width=\"{}\" height=\"1\"/></svg>",
            self.share_ppm
        )
    }
}

/// A bar whose parts add up to what was accrued.
pub(crate) struct Progress {
    parts: [(&'static str, u128); 3],
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: u128 = 10_000;
        let total: u128 = self.parts.iter().map(|(_, units)| units).sum();
        write!(
            f,
            "<svg class=\"progress\" viewBox=\"0 0 {WIDTH} 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
        )?;
        write!(f, "<rect class=\"track\" width=\"{WIDTH}\" height=\"1\"/>")?;
        let mut before = 0;
        for (class, units) in self.parts.into_iter().filter(|_| total > 0) {
            let x = before * WIDTH / total;
            before += units;
            let width = before * WIDTH / total - x;
            write!(f, "<rect class=\"{class}\" x=\"{x}\" width=\"{width}\" height=\"1\"/>")?;
        }
        f.write_str("</svg>")
    }
}

/// Thin wrappers that templates can call with fields, by value or by reference.
pub(crate) mod show {
    use super::Borrow;
    use crate::format;

    pub(crate) fn count(count: impl Borrow<u64>) -> String {
        format::grouped(*count.borrow())
    }

    pub(crate) fn percent(share_ppm: impl Borrow<u32>) -> String {
        format::percent(*share_ppm.borrow())
    }

    pub(crate) fn percent_e12(share_e12: impl Borrow<u64>) -> String {
        format::percent_e12(*share_e12.borrow())
    }

    pub(crate) fn price(pico_per_token: impl Borrow<u64>) -> String {
        format::per_million(*pico_per_token.borrow())
    }

    pub(crate) fn digest(id: impl Borrow<dividend_chain::B256>) -> String {
        format::short_id(*id.borrow())
    }

    pub(crate) fn address(address: impl Borrow<dividend_chain::Address>) -> String {
        format::short_address(*address.borrow())
    }

    pub(crate) fn utc(at_ms: impl Borrow<u64>) -> String {
        format::utc(*at_ms.borrow())
    }
}
