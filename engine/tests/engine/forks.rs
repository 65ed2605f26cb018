//! Forks by prompt.

use std::path::Path;

use dividend_engine::fork::{ForkSpec, write_fork};
use dividend_engine::gguf::Gguf;
use dividend_engine::{ChatMessage, Engine, EngineError, EngineOptions, digest_file};

use crate::common::model_path;
use crate::tiny::{Meta, Tiny, write_bytes};

fn spec(name: &str, system_prompt: &str) -> ForkSpec {
    ForkSpec { name: name.to_owned(), system_prompt: system_prompt.to_owned() }
}

fn tensor_data(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("just written");
    let gguf = Gguf::read(path).expect("a sound file");
    let last = gguf.tensors().iter().map(|tensor| tensor.offset + tensor.bytes).max().expect("tensors");
    bytes[bytes.len() - last as usize..].to_vec()
}

#[test]
fn a_fork_is_another_artifact_with_the_same_tensors() {
    let (folder, base) = Tiny::new().write();
    let (fork, again) = (folder.path().join("fork.gguf"), folder.path().join("again.gguf"));
    write_fork(&base, &fork, &spec("kind", "Be kind.\n'{{ 1 }}' {% x %}")).expect("a sound base");
    write_fork(&fork, &again, &spec("brief", "Be brief.")).expect("a fork is a base too");
    assert_eq!(tensor_data(&fork), tensor_data(&base));
    assert_eq!(tensor_data(&again), tensor_data(&base));
    let digests = [&base, &fork, &again].map(|path| digest_file(path).expect("readable"));
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);

    let engine = Engine::load(&fork, EngineOptions::default()).expect("the fork loads");
    assert_eq!(engine.info().name, "kind");
    let rendered = engine.render_chat(&[ChatMessage::new("user", "hi")]).expect("renders");
    assert_eq!(rendered, "system: Be kind.\n'{{ 1 }}' {% x %}<|end|>user: hi<|end|>assistant: ");
    let own = [ChatMessage::new("system", "Mine."), ChatMessage::new("user", "hi")];
    let rendered = engine.render_chat(&own).expect("renders");
    assert_eq!(rendered, "system: Mine.<|end|>user: hi<|end|>assistant: ");
}

#[test]
fn a_fork_of_the_real_model_speaks_with_its_own_prompt() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let fork = folder.path().join("fork.gguf");
    write_fork(&model_path(), &fork, &spec("SmolLM2 triage", "You sort tickets.")).expect("a sound base");
    let engine = Engine::load(&fork, EngineOptions::default()).expect("the fork loads");
    assert_eq!(engine.info().name, "SmolLM2 triage");
    let rendered = engine.render_chat(&[ChatMessage::new("user", "Hi")]).expect("renders");
    assert_eq!(
        rendered,
        "<|im_start|>system\nYou sort tickets.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn nothing_is_left_behind_when_a_fork_cannot_be_made() {
    let (folder, base) = write_bytes(&Tiny::new().without("tokenizer.chat_template").bytes());
    let out = folder.path().join("fork.gguf");
    let error = write_fork(&base, &out, &spec("x", "y")).expect_err("no template to change");
    assert!(matches!(&error, EngineError::Inconsistent { what, .. } if what == "tokenizer.chat_template"));
    let nowhere = folder.path().join("absent/fork.gguf");
    let (_keep, base) = Tiny::new().set("general.name", Meta::Text("a".to_owned())).write();
    let error = write_fork(&base, &nowhere, &spec("x", "y")).expect_err("no such folder");
    assert!(matches!(error, EngineError::Io { action: "write", .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
}
