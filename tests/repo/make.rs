//! The Makefile and the scripts that it runs.

use std::process::Command;

use crate::docs::root;
use crate::support::tools::succeed;

/// Returns the commands of a target, for a build in another folder.
fn commands(target: &str) -> String {
    let mut make = Command::new("make");
    make.args(["--dry-run", target]).current_dir(root()).env("CARGO_TARGET_DIR", "/elsewhere");
    succeed(make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL"), "")
}

#[test]
fn programs_are_run_from_the_folder_that_cargo_builds_into() {
    for target in ["demo", "test", "examples", "gitops", "bench", "image"] {
        let commands = commands(target);
        assert!(commands.contains("/elsewhere/"), "{target}");
        assert!(!commands.split_whitespace().any(|word| word.starts_with("target/")), "{target}:\n{commands}");
    }
    let demo = std::fs::read_to_string(root().join("hack/demo")).unwrap();
    assert!(demo.contains("${CARGO_TARGET_DIR:-target}") && !demo.contains("target/debug"));
}

#[test]
fn an_image_needs_no_program_that_only_tests_use() {
    for only_tests in ["hack/tools/build", "cargo test"] {
        assert!(commands("test").contains("hack/tools/build") && commands("check-image").contains("cargo test"));
        assert!(!commands("image").contains(only_tests), "{only_tests}");
    }
}
