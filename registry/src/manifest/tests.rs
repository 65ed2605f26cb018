//! A good model file, and every way in which one can be bad.

use super::*;

const FORK: &str = r#"
name = "triage v2"
track = "smollm2-triage"
kind = "fork"
inherit_ppm = 300_000
royalty_ppm = 200_000
floor_ppm = 5_000
uri = "https://models.example/triage-v2.gguf"

[min_price]
input_pico_per_token = 50_000
output_pico_per_token = 150_000

[artifact]
digest = "0x0303030303030303030303030303030303030303030303030303030303030303"

[[parents]]
model = "0x0101010101010101010101010101010101010101010101010101010101010101"
weight_ppm = 600_000

[[parents]]
model = "0x0202020202020202020202020202020202020202020202020202020202020202"
weight_ppm = 400_000

[[slots]]
payee = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"
share_ppm = 1_000_000
"#;

fn problems(text: &str) -> Vec<String> {
    match ModelManifest::parse(text, Path::new("model.toml")) {
        Err(Error::ManifestValues { problems, .. }) => problems,
        other => panic!("expected bad values, got {other:?}"),
    }
}

#[test]
fn a_good_file_becomes_the_contracts_input() {
    let manifest = ModelManifest::parse(FORK, Path::new("model.toml")).unwrap();
    let input = manifest.input();
    assert_eq!(input.parents.len(), 2);
    assert_eq!(input.parents[1].weightPpm, 400_000);
    assert_eq!((input.inheritPpm, input.royaltyPpm, input.floorPpm), (300_000, 200_000, 5_000));
    assert_eq!((input.minPriceIn, input.minPriceOut), (50_000, 150_000));
    assert_eq!(input.track, TrackId::of_name("smollm2-triage").as_b256());
    assert_eq!(input.artifactDigest, B256::repeat_byte(3));
    assert_eq!(input.kind, ILineageRegistry::Kind::Fork);
}

#[test]
fn all_bad_values_are_reported_in_one_run() {
    let bad = FORK
        .replace("triage v2", "triage\\u0007")
        .replace("\"smollm2-triage\"", "\"Smol\"")
        .replace("300_000", "800_001")
        .replace("royalty_ppm = 200_000", "royalty_ppm = 500_001")
        .replace("5_000\nuri", "20_001\nuri")
        .replace("400_000", "0")
        .replace("0x0202", "0x02")
        .replace("0xd8dA", "0xD8dA")
        .replace("1_000_000", "999_999")
        .replace("\"0x0303", "\"0x03");
    let problems = problems(&bad);
    for expected in [
        "name",
        "track",
        "inherit_ppm",
        "royalty_ppm",
        "floor_ppm",
        "parents[1].weight_ppm",
        "parents[1].model",
        "weight_ppm of parents sum",
        "slots[0].payee",
        "share_ppm of slots sum",
        "artifact.digest",
    ] {
        assert!(problems.iter().any(|p| p.starts_with(expected)), "{expected} is not among {problems:#?}");
    }
    assert_eq!(problems.len(), 11, "{problems:#?}");
}

#[test]
fn kind_parents_and_inheritance_must_agree() {
    let base = FORK.replace("\"fork\"", "\"base\"");
    assert!(problems(&base)[0].contains("make it a fork"));
    let dry = FORK.replace("inherit_ppm = 300_000", "inherit_ppm = 0");
    assert!(problems(&dry)[0].contains("inherit_ppm above 0"));
    let orphan = FORK.replace("[[parents]]", "[[ignored]]");
    let error = ModelManifest::parse(&orphan, Path::new("model.toml")).unwrap_err();
    assert!(matches!(&error, Error::ManifestFile { problem, .. } if problem.contains("ignored")), "{error}");
}

#[test]
fn a_duplicate_parent_and_an_unpayable_floor_are_refused() {
    let twice = FORK.replace("02020202", "01010101");
    assert!(problems(&twice)[0].contains("listed twice"));
    let free = FORK.replace("royalty_ppm = 200_000", "royalty_ppm = 0");
    assert!(problems(&free)[0].contains("cannot be paid"));
}

#[test]
fn the_digest_is_that_of_the_file_and_must_agree_with_the_one_stated() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("weights.gguf"), b"abc").unwrap();
    let line = "digest = \"0x0303030303030303030303030303030303030303030303030303030303030303\"";
    let path = dir.path().join("model.toml");
    std::fs::write(&path, FORK.replace(line, "path = \"weights.gguf\"")).unwrap();
    let manifest = ModelManifest::load(&path).unwrap();
    let abc = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(manifest.artifact_digest, abc.parse::<B256>().unwrap());
    let both = FORK.replace(line, &format!("path = \"weights.gguf\"\n{line}"));
    assert!(matches!(
        ModelManifest::parse(&both, &path),
        Err(Error::ManifestValues { problems, .. }) if problems[0].contains("but what is at")
    ));
    let missing = FORK.replace(line, "path = \"absent.gguf\"");
    assert!(matches!(
        ModelManifest::parse(&missing, &path),
        Err(Error::ManifestValues { problems, .. }) if problems[0].contains("absent.gguf")
    ));
}

#[test]
fn an_unknown_key_and_a_huge_file_are_refused() {
    let unknown = format!("royalti_ppm = 5\n{FORK}");
    let error = ModelManifest::parse(&unknown, Path::new("model.toml")).unwrap_err().to_string();
    assert!(error.contains("royalti_ppm"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.toml");
    std::fs::write(&path, vec![b'#'; 300_000]).unwrap();
    assert!(ModelManifest::load(&path).unwrap_err().to_string().contains("larger"));
}
