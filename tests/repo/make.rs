//! The Makefile and the scripts that it runs.

use std::path::Path;
use std::process::Command;

use testkit::control_plane::ControlPlane;
use testkit::portal::{App, Certificate, Portal};

use crate::docs::root;
use crate::support::SECRET;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_runs_against_a_portal_of_its_user() {
    let plane = ControlPlane::start(&ControlPlane::from_env().unwrap().bin(), None, false).await.unwrap();
    let portal = Portal::start("127.0.0.1:0".parse().unwrap(), Certificate::Good).await.unwrap();
    portal.app("app", App { secret: SECRET.to_owned(), ..App::default() });
    let debug = Path::new(env!("CARGO_BIN_EXE_arcgis-credential-operator")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([plane.bin()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut demo = Command::new(root().join("hack/demo"));
    demo.env("KUBECONFIG", plane.kubeconfig()).env("CARGO_TARGET_DIR", debug.parent().unwrap()).env("PATH", path);
    demo.env("PORTAL", portal.url()).env("DEMO_KEEP", "1");
    for (variable, text) in
        [("CLIENT_ID_FILE", "app"), ("CLIENT_SECRET_FILE", SECRET), ("ARCGIS_OPERATOR_CA_FILE", portal.ca())]
    {
        let file = plane.dir().join(variable);
        std::fs::write(&file, text).unwrap();
        demo.env(variable, file);
    }
    let printed = tokio::task::spawn_blocking(move || succeed(&mut demo, "")).await.unwrap();
    // There is no terminal, so it does not wait for Enter.
    assert!(printed.contains(&format!("export KUBECONFIG={}", plane.kubeconfig().display())), "{printed}");
    assert!(printed.contains("The demo succeeded: all 5 steps were checked."), "{printed}");
    plane.stop().await;
}
