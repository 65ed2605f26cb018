//! From a moment to the figures of a page. Pure; each struct is also the JSON that the API answers.

use std::collections::BTreeMap;

use dividend_chain::{Address, B256};
use dividend_meter::Totals;
use dividend_registry::{Kind, ModelId, ModelView, Snapshot};
use dividend_settlement::earnings::{Amounts, Earnings, slot_part};
use serde::Serialize;

use crate::format::{checksummed, clean, decimal, short_id};
use crate::lineage::{self, Node};
use crate::moment::{Moment, WindowRow};

/// Contributors on the overview.
const TOP_CONTRIBUTORS: usize = 25;
/// Windows on the overview.
const RECENT_WINDOWS: usize = 12;

/// Names for people: the track and the place in it for champions, a shortened id for others.
#[derive(Clone, Debug, Default)]
pub struct Names {
    champions: BTreeMap<ModelId, Champion>,
}

#[derive(Clone, Debug)]
struct Champion {
    name: String,
    serves: Option<String>,
}

impl Names {
    /// The names in a snapshot.
    pub fn of_snapshot(snapshot: &Snapshot) -> Self {
        let mut champions = BTreeMap::new();
        let mut tracks: Vec<_> = snapshot.tracks().collect();
        tracks.sort_by_key(|track| track.id);
        for track in tracks {
            let title = clean(&track.name);
            for (nth, id) in track.champions.iter().enumerate() {
                let serves = (track.champion() == Some(*id)).then(|| title.clone());
                champions.insert(*id, Champion { name: format!("{title}@{}", nth + 1), serves });
            }
        }
        Self { champions }
    }

    /// The name of a model.
    pub fn of(&self, id: ModelId) -> String {
        self.champions.get(&id).map_or_else(|| short_id(id.into()), |champion| champion.name.clone())
    }

    /// The track that the model serves now.
    pub fn serves(&self, id: ModelId) -> Option<String> {
        self.champions.get(&id).and_then(|champion| champion.serves.clone())
    }
}

/// The word for a kind.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Base => "base",
        Kind::Fork => "fork",
        Kind::Patch => "patch",
    }
}

/// The figures of `/`.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Number of the newest block.
    pub block: u64,
    /// Number of the newest final block.
    pub finalized: u64,
    /// Sums over all models.
    pub totals: Sums,
    /// Models, the highest charges first.
    pub models: Vec<ModelSummary>,
    /// Newest windows first.
    pub windows: Vec<WindowRow>,
    /// The contributors who earn most.
    pub contributors: Vec<ContributorSummary>,
    /// How many contributors there are in all.
    pub contributor_count: usize,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// Sums over models. Amounts are cumulative since genesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Closed calls.
    pub calls: u64,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
    /// Charged to callers, pico-dollars.
    #[serde(serialize_with = "decimal")]
    pub charge_pico: u128,
    /// Royalty earned, settled or not, base units.
    #[serde(serialize_with = "decimal")]
    pub accrued_units: u128,
    /// Royalty in the pool since genesis, base units.
    #[serde(serialize_with = "decimal")]
    pub credited_units: u128,
}

/// One model on the overview.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSummary {
    /// Its id.
    pub id: ModelId,
    /// Its name for people.
    pub name: String,
    /// The track that it serves now.
    pub serves: Option<String>,
    /// "base", "fork" or "patch".
    pub kind: &'static str,
    /// Its usage and royalty.
    #[serde(flatten)]
    pub sums: Sums,
}

/// One contributor on the overview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContributorSummary {
    /// The payee.
    #[serde(serialize_with = "checksummed")]
    pub address: Address,
    /// Slots that it holds in all models.
    pub slots: usize,
    /// What it earns.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// The figures of `/contributors/{address}`.
#[derive(Clone, Debug, Serialize)]
pub struct Contributor {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What it earns, by model and slot.
    #[serde(flatten)]
    pub earnings: Earnings,
    /// Names of the models and nodes that are mentioned.
    pub names: BTreeMap<ModelId, String>,
}

/// The figures of `/models/{id}`.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPage {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What the overview says of it.
    #[serde(flatten)]
    pub summary: ModelSummary,
    /// Who registered it.
    #[serde(serialize_with = "checksummed")]
    pub owner: Address,
    /// Part of every call's price that is royalty, ppm.
    pub royalty_ppm: u32,
    /// Part of the royalty that goes to its parents, ppm.
    pub inherit_ppm: u32,
    /// SHA-256 of its weights.
    pub artifact_digest: B256,
    /// Where its weights can be fetched; written by its owner, cleaned.
    pub uri: String,
    /// The block that registered it.
    pub registered_at: u64,
    /// Price of a prompt token, pico-dollars.
    pub input_pico_per_token: u64,
    /// Price of a generated token, pico-dollars.
    pub output_pico_per_token: u64,
    /// What it descends from.
    pub lineage: Node,
    /// Who shares its royalty: itself first.
    pub rows: Vec<ShareRow>,
}

/// One row of a model's flattened table.
#[derive(Clone, Debug, Serialize)]
pub struct ShareRow {
    /// The ancestor.
    pub node: ModelId,
    /// Its name for people; "verifiers" for the track's pot.
    pub name: String,
    /// Whether the row is a model that can be looked at.
    pub is_model: bool,
    /// Part of the royalty, ppm.
    pub share_ppm: u32,
    /// Accrued to the row, base units.
    #[serde(serialize_with = "decimal")]
    pub accrued_units: u128,
    /// Its contributors.
    pub slots: Vec<ShareSlot>,
}

/// One contributor of a row.
#[derive(Clone, Debug, Serialize)]
pub struct ShareSlot {
    /// The payee.
    #[serde(serialize_with = "checksummed")]
    pub payee: Address,
    /// Part of the model's royalty, 10⁻¹².
    pub share_e12: u64,
    /// Accrued to the slot, base units.
    #[serde(serialize_with = "decimal")]
    pub accrued_units: u128,
}

/// The figures of the overview.
pub fn overview(moment: &Moment) -> Overview {
    let names = Names::of_snapshot(&moment.snapshot);
    let models = models(moment, &names);
    let mut contributors = contributors(moment);
    let contributor_count = contributors.len();
    contributors.truncate(TOP_CONTRIBUTORS);
    Overview {
        at_ms: moment.at_ms,
        block: moment.snapshot.block().number,
        finalized: moment.snapshot.finalized(),
        totals: models.iter().fold(Sums::default(), |sum, model| sum.plus(&model.sums)),
        models,
        windows: moment.windows.iter().take(RECENT_WINDOWS).cloned().collect(),
        contributors,
        contributor_count,
        problems: moment.problems.clone(),
    }
}

/// Every model, the highest charges first.
pub fn models(moment: &Moment, names: &Names) -> Vec<ModelSummary> {
    let royalty = moment.lanes.royalty_units(&moment.snapshot);
    let mut models: Vec<ModelSummary> = moment
        .snapshot
        .models()
        .map(|model| summary(model, moment, names, royalty.get(&model.id).copied().unwrap_or(0)))
        .collect();
    models.sort_by(|a, b| (b.sums.charge_pico, a.id).cmp(&(a.sums.charge_pico, b.id)));
    models
}

/// The figures of one model; `None` if it is not registered.
pub fn model(moment: &Moment, id: ModelId) -> Option<ModelPage> {
    let view = moment.snapshot.model(id)?;
    let names = Names::of_snapshot(&moment.snapshot);
    let metered = moment.lanes.royalty_units(&moment.snapshot).get(&id).copied().unwrap_or(0);
    let summary = summary(view, moment, &names, metered);
    let quote = moment.prices.quote(&id.to_string(), summary.serves.as_deref(), moment.at_ms / 1_000).price;
    let accrued = summary.sums.accrued_units;
    Some(ModelPage {
        at_ms: moment.at_ms,
        owner: view.owner,
        royalty_ppm: view.royalty_ppm,
        inherit_ppm: view.inherit_ppm,
        artifact_digest: view.artifact_digest,
        uri: clean(&view.uri),
        registered_at: view.registered_at,
        input_pico_per_token: quote.input_pico_per_token.max(view.min_price.input_pico_per_token),
        output_pico_per_token: quote.output_pico_per_token.max(view.min_price.output_pico_per_token),
        lineage: lineage::tree(view, &moment.snapshot, &names),
        rows: share_rows(view, &moment.snapshot, &names, accrued),
        summary,
    })
}

/// What one address earns; an address without a slot earns nothing.
pub fn contributor(moment: &Moment, address: Address) -> Contributor {
    let earnings = dividend_settlement::earnings(address, &moment.snapshot, &moment.lanes);
    let names = Names::of_snapshot(&moment.snapshot);
    let mentioned = earnings
        .models
        .iter()
        .flat_map(|model| std::iter::once(model.model).chain(model.slots.iter().map(|slot| slot.node)));
    let names = mentioned.map(|id| (id, names.of(id))).collect();
    Contributor { at_ms: moment.at_ms, earnings, names }
}

/// Every contributor, the highest earnings first. One pass over all tables: it gives for each address what
/// [`dividend_settlement::earnings()`] gives for one.
pub fn contributors(moment: &Moment) -> Vec<ContributorSummary> {
    let snapshot = &moment.snapshot;
    let metered = moment.lanes.royalty_units(snapshot);
    let mut by_address: BTreeMap<Address, ContributorSummary> = BTreeMap::new();
    for model in snapshot.models() {
        let credited = snapshot.revenue_units(model.id);
        let accrued = metered.get(&model.id).copied().unwrap_or(0).max(credited);
        for row in &model.rows {
            let Some(node) = snapshot.model(row.node) else { continue };
            for (number, slot) in (0u8..).zip(&node.slots) {
                let address = slot.payee;
                let summary = by_address.entry(address).or_insert_with(|| ContributorSummary {
                    address,
                    slots: 0,
                    amounts: Amounts::default(),
                });
                let credited_units = slot_part(credited, row.share_ppm, slot.share_ppm);
                let claimed_units = snapshot.claimed_units(model.id, row.node, number);
                summary.slots += 1;
                summary.amounts.accrued_units += slot_part(accrued, row.share_ppm, slot.share_ppm);
                summary.amounts.credited_units += credited_units;
                summary.amounts.claimable_units += credited_units.saturating_sub(claimed_units);
                summary.amounts.claimed_units += claimed_units;
            }
        }
    }
    let mut contributors: Vec<_> = by_address.into_values().collect();
    contributors
        .sort_by(|a, b| (b.amounts.accrued_units, a.address).cmp(&(a.amounts.accrued_units, b.address)));
    contributors
}

fn summary(model: &ModelView, moment: &Moment, names: &Names, metered_units: u128) -> ModelSummary {
    let usage: Totals = moment.usage.get(&model.id).copied().unwrap_or_default();
    let credited_units = moment.snapshot.revenue_units(model.id);
    ModelSummary {
        id: model.id,
        name: names.of(model.id),
        serves: names.serves(model.id),
        kind: kind(model.kind),
        sums: Sums {
            calls: usage.calls,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            charge_pico: usage.charge.0,
            accrued_units: metered_units.max(credited_units),
            credited_units,
        },
    }
}

fn share_rows(model: &ModelView, snapshot: &Snapshot, names: &Names, accrued_units: u128) -> Vec<ShareRow> {
    let row = |row: &dividend_registry::Row| {
        let node = snapshot.model(row.node);
        let slots = node.map_or(&[][..], |node| &node.slots);
        let share_of = |slot: &dividend_registry::Slot| ShareSlot {
            payee: slot.payee,
            share_e12: u64::from(row.share_ppm) * u64::from(slot.share_ppm),
            accrued_units: slot_part(accrued_units, row.share_ppm, slot.share_ppm),
        };
        ShareRow {
            node: row.node,
            name: if node.is_some() { names.of(row.node) } else { "verifiers".to_owned() },
            is_model: node.is_some(),
            share_ppm: row.share_ppm,
            accrued_units: slot_part(accrued_units, row.share_ppm, 1_000_000),
            slots: slots.iter().map(share_of).collect(),
        }
    };
    model.rows.iter().map(row).collect()
}

impl Sums {
    fn plus(self, other: &Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
            charge_pico: self.charge_pico.saturating_add(other.charge_pico),
            accrued_units: self.accrued_units.saturating_add(other.accrued_units),
            credited_units: self.credited_units.saturating_add(other.credited_units),
        }
    }
}
