//! Model files, kept in the home under the digest by which they are registered.

mod kind;

use std::path::{Path, PathBuf};

use dividend_chain::B256;
use dividend_engine::{Engine, EngineOptions};
use dividend_registry::artifact;

use crate::failure::{Failure, OrFail};
use crate::home::Home;
use crate::stack::above_here;
pub(crate) use kind::{Kind, check};

/// The folder of model files, by the settings or the home.
pub(crate) fn folder(home: &Home, settings: &dividend_config::Engine) -> PathBuf {
    settings.artifacts_dir.as_ref().map_or_else(|| home.path("artifacts"), |path| home.path(path))
}

/// Where the artifact with this digest is kept, a file or a folder, if it is here.
pub(crate) fn find(folder: &Path, digest: B256) -> Option<PathBuf> {
    [file(folder, digest), subfolder(folder, digest)].into_iter().find(|path| path.exists())
}

/// The name under which a model file is kept: its digest in plain hex.
fn file(folder: &Path, digest: B256) -> PathBuf {
    folder.join(format!("{}.gguf", hex::encode(digest)))
}

/// The same for a model of several files.
fn subfolder(folder: &Path, digest: B256) -> PathBuf {
    folder.join(hex::encode(digest))
}

/// Puts a model file into the folder under its digest and answers the digest.
pub(crate) fn adopt(folder: &Path, source: &Path) -> anyhow::Result<B256> {
    let digest = artifact::digest(source).or_fail(source.display(), "give a file that you can read")?;
    keep(folder, source, digest)?;
    Ok(digest)
}

/// Puts a copy of an artifact into the folder under `digest`: what its owner does to his later does not reach it. One that
/// is there already stays.
pub(crate) fn keep(folder: &Path, source: &Path, digest: B256) -> anyhow::Result<()> {
    if find(folder, digest).is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).or_fail(folder.display(), "choose a folder that you can write to")?;
    let beside = folder.join(format!(".{}.{}", hex::encode(digest), std::process::id()));
    let (kept, copied) = if source.is_dir() {
        (subfolder(folder, digest), copy_folder(source, &beside))
    } else {
        (file(folder, digest), std::fs::copy(source, &beside).map(|_| ()))
    };
    copied
        .and_then(|()| std::fs::rename(&beside, &kept))
        .or_fail(format!("cannot keep {} as {}", source.display(), kept.display()), "make room on the disk")
}

fn copy_folder(source: &Path, target: &Path) -> std::io::Result<()> {
    if target.exists() {
        // Left by a run with the same number that was cut short.
        std::fs::remove_dir_all(target)?;
    }
    for member in artifact::members(source)? {
        let copy = target.join(&member.name);
        copy.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::copy(&member.path, copy)?;
    }
    Ok(())
}

/// The base model's file: the one that is named, or the one in `.cache/models` of this folder or of one above. It is
/// loaded once, so that a file which the engine cannot run is refused before it is registered.
pub(crate) fn base_model(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = find_base_model(named)?;
    let remedy = "fetch it again with tools/setup.sh, or name another GGUF file with --model";
    Engine::load(&path, EngineOptions::default())
        .or_fail(format!("model file {}", path.display()), remedy)?;
    Ok(path)
}

/// What `tools/setup.sh` fetches for every purpose; beside it there may be models that only tests need.
const USUAL_BASE: &str = "smollm2-135m-instruct-q4_1.gguf";

fn find_base_model(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let remedy = "fetch one with tools/setup.sh, or name a GGUF file with --model";
    if let Some(path) = named {
        return match path.is_file() {
            true => Ok(path.to_owned()),
            false => Err(Failure::new(format!("there is no model file {}", path.display()), remedy).into()),
        };
    }
    let cached = above_here(Path::new(".cache/models")).and_then(|folder| {
        let usual = folder.join(USUAL_BASE);
        if usual.is_file() { Some(usual) } else { first_gguf(&folder) }
    });
    cached.ok_or_else(|| Failure::new("no model file in .cache/models", remedy).into())
}

fn first_gguf(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_file_is_kept_under_its_digest_once() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.gguf");
        std::fs::write(&source, b"abc").unwrap();
        let artifacts = folder.path().join("artifacts");
        let digest = adopt(&artifacts, &source).unwrap();
        assert_eq!(digest, adopt(&artifacts, &source).unwrap());
        let name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.gguf";
        assert_eq!(std::fs::read(artifacts.join(name)).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(&artifacts).unwrap().count(), 1);
    }

    #[test]
    fn a_model_of_several_files_is_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model");
        std::fs::create_dir_all(source.join("1_Pooling")).unwrap();
        std::fs::write(source.join("config.json"), b"{}").unwrap();
        std::fs::write(source.join("1_Pooling/config.json"), b"[]").unwrap();
        let artifacts = folder.path().join("artifacts");
        let digest = adopt(&artifacts, &source).unwrap();
        let kept = find(&artifacts, digest).unwrap();
        assert_eq!(artifact::digest(&kept).unwrap(), digest);
        assert_eq!(adopt(&artifacts, &source).unwrap(), digest);
        assert_eq!(std::fs::read_dir(&artifacts).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_model_is_named_with_its_remedy() {
        let error = base_model(Some(Path::new("/nowhere/x.gguf"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x.gguf"));
    }

    #[test]
    fn a_file_that_is_no_model_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("noise.gguf");
        std::fs::write(&path, [7; 1_000]).unwrap();
        let error = base_model(Some(&path)).unwrap_err();
        assert!(error.to_string().contains("noise.gguf"), "{error}");
    }

    #[test]
    fn the_first_gguf_of_a_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(first_gguf(folder.path()), None);
        for name in ["b.gguf", "a.gguf", "0.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(first_gguf(folder.path()), Some(folder.path().join("a.gguf")));
    }
}
