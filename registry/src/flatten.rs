//! From parents' tables to a table of one's own, bit for bit as the contract does it.
//!
//! Merge by node in the order of first meeting; drop; apportion 10⁶ over what is kept so that every floor holds; take
//! the verifiers' pot out of the model's own row. Pure, integers only.

use std::collections::HashMap;

use crate::{ModelId, Row};

/// All, in ppm.
pub const PPM: u32 = 1_000_000;
/// Most rows of a table, the pot not counted.
pub const MAX_ROWS: usize = 32;
/// Most of the royalty that floors may take together, in ppm.
pub const MAX_NEED_PPM: u64 = 500_000;
/// Rows without a floor below this weight (of 10¹⁸) are dropped: 100 ppm.
const MIN_WEIGHT: u128 = 100 * 1_000_000_000_000;

/// A parent as flattening sees it.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Its part of what the child passes on, in ppm.
    pub weight_ppm: u32,
    /// Its table.
    pub rows: &'a [Row],
    /// The pot of its track, whose row is not inherited.
    pub pot: Option<ModelId>,
}

/// The terms of the model to be registered.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Part of the royalty that goes to the parents' tables, in ppm: at most 800_000.
    pub inherit_ppm: u32,
    /// Part of every call's price that is royalty, in ppm: at most 500_000.
    pub royalty_ppm: u32,
    /// Least part of a call's price for this node in every descendant, in ppm: at most 20_000.
    pub floor_ppm: u32,
    /// The pot of its track, and its part of the royalty in ppm: at most 50_000.
    pub pot: Option<(ModelId, u32)>,
}

/// Why a line cannot be continued on these terms. These are the contract's errors, and its only ones on a long line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlattenError {
    /// A row demands a part of the price, but no part of the price is royalty.
    #[error("a floor of {floor_ppm} ppm of the price must be paid, but the royalty is 0; give a royalty")]
    FloorWithoutRoyalty {
        /// The first such floor.
        floor_ppm: u32,
    },
    /// More rows must be kept than a table has.
    #[error("{count} rows must be kept, of at most {MAX_ROWS}; derive from fewer lines with floors")]
    TooManyFloors {
        /// Rows with a floor, and the model's own.
        count: usize,
    },
    /// The floors take more of the royalty than they may together.
    #[error("floors need {need_ppm} ppm of the royalty, of at most {MAX_NEED_PPM}; raise royalty_ppm")]
    FloorsTooHigh {
        /// What they need together, in ppm of the royalty.
        need_ppm: u64,
    },
}

/// A row while its value is still a weight of 10¹⁸ in all.
#[derive(Clone, Copy, Debug)]
struct Weighted {
    node: ModelId,
    weight: u128,
    floor_ppm: u32,
}

/// The table of `model`: itself, its ancestors as first met in the parents' tables in listed order, then the pot. The
/// shares sum to 1_000_000.
///
/// # Errors
/// [`FlattenError`], in the order of its variants.
pub fn flatten(model: ModelId, parents: &[Parent<'_>], terms: &Terms) -> Result<Vec<Row>, FlattenError> {
    let merged = merge(model, parents, terms);
    let mandatory = count_mandatory(&merged, terms.royalty_ppm)?;
    let kept = keep(&merged, MAX_ROWS - mandatory);
    let pot = terms.pot.filter(|(_, ppm)| *ppm > 0);
    let needs = needs(&kept, terms.royalty_ppm, pot.map_or(0, |(_, ppm)| ppm))?;
    let mut rows = apportion(&kept, &needs);
    if let Some((node, share_ppm)) = pot {
        rows[0].share_ppm -= share_ppm;
        rows.push(Row { node, share_ppm, floor_ppm: 0 });
    }
    Ok(rows)
}

fn merge(model: ModelId, parents: &[Parent<'_>], terms: &Terms) -> Vec<Weighted> {
    let own = u128::from(PPM - terms.inherit_ppm) * u128::from(PPM) * u128::from(PPM);
    let mut rows = vec![Weighted { node: model, weight: own, floor_ppm: terms.floor_ppm }];
    let mut places = HashMap::from([(model, 0)]);
    for parent in parents {
        let scale = u128::from(parent.weight_ppm) * u128::from(terms.inherit_ppm);
        for row in parent.rows.iter().filter(|row| Some(row.node) != parent.pot) {
            let place = *places.entry(row.node).or_insert(rows.len());
            if place == rows.len() {
                rows.push(Weighted { node: row.node, weight: 0, floor_ppm: 0 });
            }
            rows[place].weight += scale * u128::from(row.share_ppm);
            rows[place].floor_ppm = rows[place].floor_ppm.max(row.floor_ppm);
        }
    }
    rows
}

/// Rows with a floor, and the model's own: without it there would be nothing to pay the pot and the slots from.
fn count_mandatory(rows: &[Weighted], royalty_ppm: u32) -> Result<usize, FlattenError> {
    if royalty_ppm == 0
        && let Some(row) = rows.iter().find(|row| row.floor_ppm != 0)
    {
        return Err(FlattenError::FloorWithoutRoyalty { floor_ppm: row.floor_ppm });
    }
    let count = 1 + rows[1..].iter().filter(|row| row.floor_ppm != 0).count();
    match count > MAX_ROWS {
        true => Err(FlattenError::TooManyFloors { count }),
        false => Ok(count),
    }
}

/// The mandatory rows and the `limit` heaviest others (ties: the earlier stays), in their order.
fn keep(rows: &[Weighted], limit: usize) -> Vec<Weighted> {
    let droppable = |row: &Weighted| row.floor_ppm == 0 && row.weight >= MIN_WEIGHT;
    let mut heaviest: Vec<usize> = (1..rows.len()).filter(|&i| droppable(&rows[i])).collect();
    // The sort is stable, so that of equals the later falls out.
    heaviest.sort_by_key(|&i| std::cmp::Reverse(rows[i].weight));
    heaviest.truncate(limit);
    let stays = |i: usize| i == 0 || rows[i].floor_ppm != 0 || heaviest.contains(&i);
    (0..rows.len()).filter(|&i| stays(i)).map(|i| rows[i]).collect()
}

/// The least ppm of each row. The model's own, if it has a floor, must still hold after the pot was taken from it.
fn needs(rows: &[Weighted], royalty_ppm: u32, pot_ppm: u32) -> Result<Vec<u64>, FlattenError> {
    let need = |row: &Weighted| match row.floor_ppm {
        0 => 0,
        floor => (u64::from(floor) * u64::from(PPM)).div_ceil(u64::from(royalty_ppm)),
    };
    let mut needs: Vec<u64> = rows.iter().map(need).collect();
    let need_ppm = needs.iter().sum();
    if need_ppm > MAX_NEED_PPM {
        return Err(FlattenError::FloorsTooHigh { need_ppm });
    }
    if needs[0] != 0 {
        needs[0] += u64::from(pot_ppm);
    }
    Ok(needs)
}

/// Shares 10⁶ by weight. In rounds, every row that would get less than its need is fixed at it, all of a round against the
/// same rest. Needs sum to less than 10⁶, so that some row is always above its own and the rest never reaches zero.
fn apportion(rows: &[Weighted], needs: &[u64]) -> Vec<Row> {
    let mut fixed = vec![false; rows.len()];
    let mut rest = u128::from(PPM);
    let mut weight: u128 = rows.iter().map(|row| row.weight).sum();
    loop {
        let short = |i: usize| rest * rows[i].weight / weight < u128::from(needs[i]);
        let round: Vec<usize> = (0..rows.len()).filter(|&i| !fixed[i] && short(i)).collect();
        if round.is_empty() {
            break;
        }
        for i in round {
            fixed[i] = true;
            rest -= u128::from(needs[i]);
            weight -= rows[i].weight;
        }
    }
    let shares = largest_remainder(rows, needs, &fixed, rest, weight);
    let row =
        |(row, share_ppm): (&Weighted, u32)| Row { node: row.node, share_ppm, floor_ppm: row.floor_ppm };
    rows.iter().zip(shares).map(row).collect()
}

/// Floors of the rows that are not fixed, then what is left, one by one, to the largest remainders (ties: earlier row).
fn largest_remainder(rows: &[Weighted], needs: &[u64], fixed: &[bool], rest: u128, weight: u128) -> Vec<u32> {
    let mut left = rest;
    let mut shares = Vec::with_capacity(rows.len());
    let mut remainders = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        if fixed[i] {
            shares.push(ppm(u128::from(needs[i])));
            continue;
        }
        let product = rest * row.weight;
        shares.push(ppm(product / weight));
        left -= product / weight;
        remainders.push((std::cmp::Reverse(product % weight), i));
    }
    remainders.sort_unstable();
    for (_, i) in remainders.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        shares[*i] += 1;
    }
    shares
}

fn ppm(value: u128) -> u32 {
    u32::try_from(value).expect("a share is at most 10⁶")
}

#[cfg(test)]
mod tests;
