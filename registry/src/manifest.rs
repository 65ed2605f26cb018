//! `model.toml`: what an owner says about a model, checked before a transaction is sent.

mod check;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use dividend_chain::bindings::ILineageRegistry::{self, NodeInput};
use serde::Deserialize;

use crate::flatten::{self, Parent, Terms};
use crate::{Error, Kind, ModelId, ModelView, ParentView, PriceFloor, Result, Row, Slot, Snapshot, TrackId};

/// A larger model file is not read.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A model as described by its owner, with every value within the registry's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelManifest {
    /// What people call it; stays off the chain.
    pub name: String,
    /// The track that it is made for.
    pub track: Option<String>,
    /// How it came to be.
    pub kind: Kind,
    /// Parents with weights that sum to 1_000_000.
    pub parents: Vec<ParentView>,
    /// Part of the royalty that goes to the parents, in ppm.
    pub inherit_ppm: u32,
    /// Contributors with shares that sum to 1_000_000.
    pub slots: Vec<Slot>,
    /// Part of every call's price that is royalty, in ppm.
    pub royalty_ppm: u32,
    /// Least prices.
    pub min_price: PriceFloor,
    /// Least part of a call's price for this model in every descendant, in ppm.
    pub floor_ppm: u32,
    /// The artifact's digest: see [`crate::artifact`].
    pub artifact_digest: B256,
    /// The artifact on this machine, if the file names it.
    pub artifact_path: Option<PathBuf>,
    /// Where others can fetch the artifact.
    pub uri: String,
}

impl ModelManifest {
    /// Reads a model file. Its artifact path is relative to the file, and the digest is computed from the artifact; if the
    /// file gives both, they must agree.
    ///
    /// # Errors
    /// [`Error::ManifestFile`] for a file that cannot be read or parsed, [`Error::ManifestValues`] with every bad value.
    pub fn load(path: &Path) -> Result<Self> {
        let bad = |problem: String| Error::ManifestFile { path: path.into(), problem };
        let mut text = String::new();
        let file = File::open(path).map_err(|e| bad(e.to_string()))?;
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(bad(format!("is larger than {MAX_FILE_BYTES} bytes")));
        }
        Self::parse(&text, path)
    }

    /// Parses the text of a model file; `path` is where it stands.
    ///
    /// # Errors
    /// As [`ModelManifest::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let bad = |problem: String| Error::ManifestFile { path: path.into(), problem };
        let deserializer = toml::Deserializer::parse(text).map_err(|e| bad(e.to_string()))?;
        let draft: Draft = serde_path_to_error::deserialize(deserializer)
            .map_err(|e| bad(format!("{}: {}", e.path(), e.inner().message())))?;
        check::checked(draft, path.parent().unwrap_or(Path::new(".")))
            .map_err(|problems| Error::ManifestValues { path: path.into(), problems })
    }

    /// The track's id, if the model is made for one.
    pub fn track_id(&self) -> Option<TrackId> {
        self.track.as_deref().map(TrackId::of_name)
    }

    /// The table that the model will have, computed as the contract does.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] and [`Error::UnknownTrack`] for what the snapshot does not have; [`Error::Flatten`] for
    /// terms that the line does not allow.
    pub fn table(&self, snapshot: &Snapshot, id: ModelId) -> Result<Vec<Row>> {
        let views =
            self.parents.iter().map(|parent| snapshot.require(parent.model)).collect::<Result<Vec<_>>>()?;
        let parents = self.parents.iter().zip(&views).map(|(parent, view)| Parent {
            weight_ppm: parent.weight_ppm,
            rows: &view.rows,
            pot: view.track.map(TrackId::pot),
        });
        let parents: Vec<Parent<'_>> = parents.collect();
        let pot = match self.track_id() {
            None => None,
            Some(track) => {
                let view = snapshot.track_by_id(track).ok_or(Error::UnknownTrack(track))?;
                Some((track.pot(), view.verifier_ppm))
            }
        };
        let terms = Terms {
            inherit_ppm: self.inherit_ppm,
            royalty_ppm: self.royalty_ppm,
            floor_ppm: self.floor_ppm,
            pot,
        };
        Ok(flatten::flatten(id, &parents, &terms)?)
    }

    /// The terms by which a registered model differs from this description, each with both values; none if it is the same.
    pub fn differences(&self, registered: &ModelView) -> Vec<String> {
        fn differs<T: PartialEq + std::fmt::Debug>(what: &str, here: &T, there: &T) -> Option<String> {
            (here != there).then(|| format!("{what} is {there:?}, here {here:?}"))
        }
        let there = registered;
        [
            differs("kind", &self.kind, &there.kind),
            differs("parents", &self.parents, &there.parents),
            differs("inherit_ppm", &self.inherit_ppm, &there.inherit_ppm),
            differs("slots", &self.slots, &there.slots),
            differs("royalty_ppm", &self.royalty_ppm, &there.royalty_ppm),
            differs("min_price", &self.min_price, &there.min_price),
            differs("floor_ppm", &self.floor_ppm, &there.floor_ppm),
            differs("uri", &self.uri, &there.uri),
            differs("track", &self.track_id(), &there.track),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The contract's input.
    pub fn input(&self) -> NodeInput {
        let parent =
            |p: &ParentView| ILineageRegistry::Parent { node: p.model.into(), weightPpm: p.weight_ppm };
        let slot = |s: &Slot| ILineageRegistry::Slot { payee: s.payee, sharePpm: s.share_ppm };
        NodeInput {
            parents: self.parents.iter().map(parent).collect(),
            inheritPpm: self.inherit_ppm,
            slots: self.slots.iter().map(slot).collect(),
            royaltyPpm: self.royalty_ppm,
            minPriceIn: self.min_price.input_pico_per_token,
            minPriceOut: self.min_price.output_pico_per_token,
            floorPpm: self.floor_ppm,
            artifactDigest: self.artifact_digest,
            uri: self.uri.clone(),
            kind: match self.kind {
                Kind::Base => ILineageRegistry::Kind::Base,
                Kind::Fork => ILineageRegistry::Kind::Fork,
                Kind::Patch => ILineageRegistry::Kind::Patch,
            },
            track: self.track_id().map(B256::from).unwrap_or_default(),
        }
    }
}

/// The file as written. Ids are text here, so that every bad one is reported in one run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    name: String,
    track: Option<String>,
    kind: Kind,
    #[serde(default)]
    parents: Vec<DraftParent>,
    #[serde(default)]
    inherit_ppm: u32,
    slots: Vec<DraftSlot>,
    royalty_ppm: u32,
    #[serde(default)]
    min_price: PriceFloor,
    #[serde(default)]
    floor_ppm: u32,
    artifact: DraftArtifact,
    #[serde(default)]
    uri: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftParent {
    model: String,
    weight_ppm: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftSlot {
    payee: String,
    share_ppm: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftArtifact {
    path: Option<PathBuf>,
    digest: Option<String>,
}

fn payee(text: &str) -> Option<Address> {
    Address::parse_checksummed(text, None).ok().or_else(|| {
        // All-lower-case carries no checksum, by EIP-55.
        text.parse().ok().filter(|_| text == text.to_lowercase())
    })
}

#[cfg(test)]
mod tests;
