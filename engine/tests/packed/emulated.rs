//! The same hashes on other processors, which qemu-user emulates: this program runs itself there, tests of
//! `golden.rs` alone. qemu has no AVX-512.

use std::process::Command;

/// Runs a test on a processor, and expects that it passes and that its output says by what it computed.
fn passes_on(processor: &str, test: &str, computed_by: &str) {
    let program = std::env::current_exe().expect("a program has a path");
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let command = Command::new("qemu-x86_64").args(["-cpu", processor]).arg(program).args(arguments).output();
    let output = command.expect("qemu-x86_64 runs; tools/setup.sh test installs it");
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} on {processor}:\n{printed}\n{errors}");
    assert!(printed.contains("1 passed"), "{test} is no test:\n{printed}");
    assert!(printed.contains(&format!("computed by {computed_by}\n")), "{test} on {processor}:\n{printed}");
}

#[test]
fn a_haswell_computes_the_tiny_models_logits() {
    passes_on("Haswell", "golden::tiny_models_logits_are_those_of_the_profile", "[Avx2, Portable]");
}

#[test]
fn a_haswell_computes_a_short_prompts_logits() {
    passes_on("Haswell", "golden::a_short_prompts_logits_are_those_of_the_profile", "packed avx2");
}

#[test]
fn a_nehalem_without_avx_computes_the_tiny_models_logits() {
    passes_on("Nehalem", "golden::tiny_models_logits_are_those_of_the_profile", "[Portable]");
}

#[test]
fn a_nehalem_without_avx_computes_a_short_prompts_logits() {
    passes_on("Nehalem", "golden::a_short_prompts_logits_are_those_of_the_profile", "packed portable");
}
