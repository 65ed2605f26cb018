//! The arrows between crates, and who may know what, as ARCHITECTURE.md draws them.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Dependency, MetadataCommand, Package};

const PREFIX: &str = "dividend-";

/// Crate → the crates of this workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 10] = [
    ("config", &[]),
    ("engine", &[]),
    ("chain", &["config"]),
    ("registry", &["chain", "config"]),
    ("meter", &["registry", "chain", "config"]),
    ("settlement", &["meter", "registry", "chain", "config"]),
    ("gateway", &["engine", "meter", "registry", "chain", "config"]),
    ("dashboard", &["settlement", "meter", "registry", "chain", "config"]),
    ("cli", &["dashboard", "gateway", "settlement", "meter", "registry", "chain", "engine", "config"]),
    ("loadtest", &[]),
];

/// Crates from outside (by the beginning of their names) → who may depend on them directly.
const CONFINED: [(&str, &[&str]); 5] = [
    ("candle", &["engine"]),
    ("hyper", &["gateway", "dashboard", "cli", "loadtest"]),
    ("axum", &["gateway", "dashboard", "cli", "loadtest"]),
    ("anyhow", &["cli", "loadtest"]),
    ("alloy", &["chain", "registry", "meter", "settlement", "gateway"]),
];

/// Features of alloy that bring providers, signers and transports.
const CHAIN_ONLY: [&str; 8] =
    ["contract", "network", "provider", "signer", "rpc", "reqwest", "transport", "full"];

fn packages() -> BTreeMap<String, Package> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .other_options(["--locked".to_owned()])
        .exec()
        .expect("cargo reads the workspace");
    let own = metadata.workspace_packages().into_iter().cloned();
    own.map(|package| (package.name.to_string().replacen(PREFIX, "", 1), package)).collect()
}

/// What a crate is built from; its tests may use more.
fn built_from(package: &Package) -> impl Iterator<Item = &Dependency> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != cargo_metadata::DependencyKind::Development)
}

#[test]
fn arrows_point_one_way() {
    let packages = packages();
    let drawn: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(there, drawn, "a new crate is a design decision: draw its arrows");
    for (name, may) in ARROWS {
        let own =
            packages[name].dependencies.iter().filter_map(|dependency| dependency.name.strip_prefix(PREFIX));
        for other in own.filter(|other| *other != name) {
            assert!(may.contains(&other), "{name} may not depend on {other}");
        }
    }
}

#[test]
fn outside_crates_stay_where_they_belong() {
    for (name, package) in packages() {
        for dependency in built_from(&package) {
            for (confined, may) in CONFINED {
                let is_meant = dependency.name.starts_with(confined);
                assert!(
                    !is_meant || may.contains(&name.as_str()),
                    "{name} may not depend on {}",
                    dependency.name
                );
            }
        }
    }
}

#[test]
fn only_chain_has_providers_and_signers() {
    let packages = packages();
    let asks_for = |name: &str| -> Vec<String> {
        let alloy = built_from(&packages[name]).filter(|dependency| dependency.name.starts_with("alloy"));
        let features =
            alloy.inspect(|alloy| assert!(!alloy.uses_default_features)).flat_map(|alloy| &alloy.features);
        let is_confined = |feature: &&String| CHAIN_ONLY.iter().any(|confined| feature.starts_with(confined));
        features.filter(is_confined).cloned().collect()
    };
    assert!(!asks_for("chain").is_empty(), "chain asks for a provider and a signer");
    for name in packages.keys().filter(|name| *name != "chain") {
        assert_eq!(
            asks_for(name),
            Vec::<String>::new(),
            "{name} may use alloy's primitives and ABI types only"
        );
    }
}

#[test]
fn every_crate_keeps_the_workspace_lints() {
    for package in packages().values() {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", package.manifest_path);
    }
}
