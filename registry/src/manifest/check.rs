//! The registry's rules, applied before a transaction is sent. Every bad value is reported in one run.

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};

use super::{Draft, DraftArtifact, DraftParent, DraftSlot, ModelManifest, payee};
use crate::artifact;
use crate::ids::shown;
use crate::{Kind, ModelId, ParentView, Slot};

const PPM: u64 = 1_000_000;
const MAX_PARENTS: usize = 16;
const MAX_SLOTS: usize = 8;
const MAX_INHERIT_PPM: u32 = 800_000;
const MAX_ROYALTY_PPM: u32 = 500_000;
const MAX_FLOOR_PPM: u32 = 20_000;
const MAX_URI_BYTES: usize = 512;
const MAX_NAME_CHARS: usize = 128;
const MAX_TRACK_BYTES: usize = 64;

/// The manifest, or every bad value of the draft. `folder` is where relative artifact paths begin.
pub(super) fn checked(draft: Draft, folder: &Path) -> Result<ModelManifest, Vec<String>> {
    let mut check = Check { problems: Vec::new() };
    check.texts(&draft);
    check.at_most("inherit_ppm", draft.inherit_ppm, MAX_INHERIT_PPM);
    check.at_most("royalty_ppm", draft.royalty_ppm, MAX_ROYALTY_PPM);
    check.at_most("floor_ppm", draft.floor_ppm, MAX_FLOOR_PPM);
    check.kind(draft.kind, draft.parents.len(), draft.inherit_ppm);
    if draft.floor_ppm > 0 && draft.royalty_ppm == 0 {
        let floor = draft.floor_ppm;
        check.refuse(format!(
            "floor_ppm = {floor} cannot be paid with royalty_ppm = 0: give a royalty or no floor"
        ));
    }
    let parents = check.parents(&draft.parents);
    let slots = check.slots(&draft.slots);
    let (artifact_path, artifact_digest) = check.artifact(&draft.artifact, folder);
    match check.problems.is_empty() {
        false => Err(check.problems),
        true => Ok(ModelManifest {
            name: draft.name,
            track: draft.track,
            kind: draft.kind,
            parents,
            inherit_ppm: draft.inherit_ppm,
            slots,
            royalty_ppm: draft.royalty_ppm,
            min_price: draft.min_price,
            floor_ppm: draft.floor_ppm,
            artifact_digest,
            artifact_path,
            uri: draft.uri,
        }),
    }
}

struct Check {
    problems: Vec<String>,
}

impl Check {
    fn refuse(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn at_most(&mut self, key: &str, value: u32, most: u32) {
        if value > most {
            self.refuse(format!("{key} = {value} is above {most}"));
        }
    }

    fn texts(&mut self, draft: &Draft) {
        let name = &draft.name;
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            let name = shown(name);
            self.refuse(format!(
                "name = \"{name}\": give 1 to {MAX_NAME_CHARS} characters, none of them control"
            ));
        }
        if let Some(track) = &draft.track {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if track.is_empty() || track.len() > MAX_TRACK_BYTES || !track.bytes().all(allowed) {
                let track = shown(track);
                self.refuse(format!(
                    "track = \"{track}\": give 1 to {MAX_TRACK_BYTES} characters of a-z, 0-9 and -"
                ));
            }
        }
        if draft.uri.len() > MAX_URI_BYTES || draft.uri.chars().any(char::is_control) {
            let length = draft.uri.len();
            self.refuse(format!(
                "uri has {length} bytes: give at most {MAX_URI_BYTES} without control characters"
            ));
        }
    }

    fn kind(&mut self, kind: Kind, parents: usize, inherit_ppm: u32) {
        match (kind, parents, inherit_ppm) {
            (Kind::Base, 0, 0) => {}
            (Kind::Base, ..) => self.refuse(format!(
                "a base has no parents and inherit_ppm = 0, not {parents} parents and {inherit_ppm}: make it a fork or a patch"
            )),
            (_, 0, _) => self.refuse("a fork or a patch needs at least one parent: name them or make it a base".into()),
            (_, _, 0) => self.refuse("a fork or a patch needs inherit_ppm above 0: its parents must get a part".into()),
            _ => {}
        }
    }

    fn parents(&mut self, drafts: &[DraftParent]) -> Vec<ParentView> {
        if drafts.len() > MAX_PARENTS {
            self.refuse(format!("parents has {} entries: give at most {MAX_PARENTS}", drafts.len()));
        }
        let mut parents: Vec<ParentView> = Vec::new();
        for (i, draft) in drafts.iter().enumerate() {
            if draft.weight_ppm == 0 {
                self.refuse(format!("parents[{i}].weight_ppm = 0: give at least 1"));
            }
            match draft.model.parse::<ModelId>() {
                Err(error) => self.refuse(format!("parents[{i}].model: {error}")),
                Ok(model) if parents.iter().any(|known| known.model == model) => {
                    self.refuse(format!("parents[{i}].model = {model} is listed twice: list it once"));
                }
                Ok(model) => parents.push(ParentView { model, weight_ppm: draft.weight_ppm }),
            }
        }
        if !drafts.is_empty() {
            self.whole("weight_ppm of parents", drafts.iter().map(|draft| draft.weight_ppm));
        }
        parents
    }

    fn slots(&mut self, drafts: &[DraftSlot]) -> Vec<Slot> {
        if drafts.is_empty() || drafts.len() > MAX_SLOTS {
            self.refuse(format!("slots has {} entries: give 1 to {MAX_SLOTS}", drafts.len()));
        }
        let mut slots = Vec::new();
        for (i, draft) in drafts.iter().enumerate() {
            if draft.share_ppm == 0 {
                self.refuse(format!("slots[{i}].share_ppm = 0: give at least 1"));
            }
            match payee(&draft.payee) {
                Some(payee) if payee != Address::ZERO => {
                    slots.push(Slot { share_ppm: draft.share_ppm, payee })
                }
                _ => {
                    let text = shown(&draft.payee);
                    self.refuse(format!("slots[{i}].payee = \"{text}\": give a non-zero address, 0x and 40 hex digits (EIP-55)"));
                }
            }
        }
        if !drafts.is_empty() {
            self.whole("share_ppm of slots", drafts.iter().map(|draft| draft.share_ppm));
        }
        slots
    }

    fn whole(&mut self, what: &str, parts: impl Iterator<Item = u32>) {
        let sum: u64 = parts.map(u64::from).sum();
        if sum != PPM {
            self.refuse(format!("{what} sum to {sum}: make them sum to {PPM}"));
        }
    }

    fn artifact(&mut self, draft: &DraftArtifact, folder: &Path) -> (Option<PathBuf>, B256) {
        let stated = draft.digest.as_ref().and_then(|text| match text.parse::<ModelId>() {
            Ok(digest) if digest.as_b256() != B256::ZERO => Some(digest.as_b256()),
            _ => {
                self.refuse(format!(
                    "artifact.digest = \"{}\": give SHA-256 as 0x and 64 hex digits",
                    shown(text)
                ));
                None
            }
        });
        let path = draft.path.as_ref().map(|path| folder.join(path));
        let found = path.as_ref().and_then(|path| match artifact::digest(path) {
            Ok(digest) => Some(digest),
            Err(error) => {
                self.refuse(format!("artifact.path = {}: {error}", path.display()));
                None
            }
        });
        match (stated, found) {
            (Some(stated), Some(found)) if stated != found => {
                self.refuse(format!("artifact.digest = {stated}, but what is at artifact.path has {found}"));
            }
            (None, None) if draft.path.is_none() && draft.digest.is_none() => {
                self.refuse("artifact names neither path nor digest: give one of them".into());
            }
            _ => {}
        }
        (path, stated.or(found).unwrap_or_default())
    }
}
