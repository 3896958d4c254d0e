//! The GitHub workflows are valid, pinned, and have minimal permissions.

use std::path::PathBuf;
use std::process::Command;

use crate::docs::root;
use crate::support::tools::succeed;
use serde_json::Value;

fn workflows() -> Vec<(PathBuf, Value)> {
    let files = std::fs::read_dir(root().join(".github/workflows")).unwrap().map(|file| file.unwrap().path());
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, serde_saphyr::from_str(&text).unwrap())
    };
    files.map(read).collect()
}

fn jobs(workflow: &Value) -> impl Iterator<Item = &Value> {
    workflow["jobs"].as_object().unwrap().values()
}

fn steps(workflow: &Value) -> impl Iterator<Item = &Value> {
    jobs(workflow).flat_map(|job| job["steps"].as_array().unwrap())
}

#[test]
fn actionlint_reports_nothing() {
    let linter = crate::support::tools::go_build("hack/actionlint", "github.com/rhysd/actionlint/cmd/actionlint");
    let mut lint = Command::new(linter);
    // These optional programs differ between machines.
    lint.args(["-shellcheck=", "-pyflakes="]).args(workflows().into_iter().map(|(file, _)| file));
    succeed(&mut lint, "");
}

/// Returns the minor versions of Kubernetes that have a module file, the oldest first.
fn kubernetes_versions() -> Vec<String> {
    let folder = root().join("hack/controlplane");
    let files = std::fs::read_dir(folder.join("versions")).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|kind| kind == "mod")).chain([folder.join("go.mod")]);
    let pinned = files.map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        let version = text.lines().find_map(|line| line.strip_prefix("\tk8s.io/kubernetes v1."));
        let (minor, _) = version.and_then(|version| version.split_once('.')).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(name == "go" || name == format!("1.{minor}"), "{}: pins 1.{minor}", file.display());
        minor.parse().unwrap()
    });
    let mut minors: Vec<u32> = pinned.collect();
    minors.sort_unstable();
    minors.into_iter().map(|minor| format!("1.{minor}")).collect()
}

#[test]
fn the_same_kubernetes_versions_are_built_tested_and_documented() {
    let versions = kubernetes_versions();
    let (_, ci) = workflows().into_iter().find(|(file, _)| file.ends_with("ci.yml")).unwrap();
    assert_eq!(ci["jobs"]["test"]["strategy"]["matrix"]["kubernetes"], serde_json::json!(versions));
    assert_eq!(ci["jobs"]["test"]["steps"][1]["env"]["KUBERNETES"], "${{ matrix.kubernetes }}");
    let page = std::fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| 1.")?.split_once(" | 1."));
    let mut tested: Vec<String> = rows.map(|(minor, _)| format!("1.{minor}")).collect();
    tested.reverse();
    assert_eq!(tested, versions, "docs/compatibility.md");
    let chart = std::fs::read_to_string(root().join("deploy/chart/Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("\nkubeVersion: \">={}.0-0\"\n", versions[0])), "the oldest: {versions:?}");
    for page in ["deploy/chart/README.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&format!("Kubernetes {} or newer", versions[0])), "{page}: {}", versions[0]);
    }
}

#[test]
fn an_unknown_kubernetes_version_is_rejected_with_the_known_ones() {
    let mut build = Command::new(root().join("hack/controlplane/build"));
    let printed = crate::support::tools::run(build.env("KUBERNETES", "1.9"), "");
    assert!(!printed.success);
    assert!(printed.err.contains(&format!("Use one of {}.", kubernetes_versions().join(" "))), "{}", printed.err);
}

#[test]
fn every_action_is_pinned_to_a_commit_with_a_version_comment() {
    let mut pinned = 0;
    for (file, workflow) in workflows() {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("uses: ")).collect();
        for line in &lines {
            let (_, commit) = line.split_once('@').unwrap_or_else(|| panic!("not pinned: {line}"));
            let (commit, version) = commit.split_once(" # v").unwrap_or_else(|| panic!("without a version: {line}"));
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(commit.len() == 40 && commit.chars().all(hex), "not a commit: {line}");
            assert_eq!(version.split('.').count(), 3, "{line}");
        }
        assert_eq!(steps(&workflow).filter(|step| !step["uses"].is_null()).count(), lines.len(), "{}", file.display());
        pinned += lines.len();
    }
    assert!(pinned > 2);
}

#[test]
fn a_workflow_has_read_permission_and_each_job_declares_the_rest() {
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}), "{}", file.display());
        for job in jobs(&workflow) {
            let granted = job["permissions"].as_object().cloned().unwrap_or_default();
            let known = ["attestations", "contents", "id-token", "packages"];
            assert!(granted.keys().all(|right| known.contains(&right.as_str())), "{granted:?}");
            assert!(job["timeout-minutes"].is_number(), "{}", file.display());
        }
        for step in steps(&workflow).filter(|step| step["uses"].as_str().is_some_and(|uses| uses.contains("checkout")))
        {
            assert_eq!(step["with"]["persist-credentials"], false, "the checkout persists no token");
        }
    }
}

#[test]
fn no_script_contains_an_expression() {
    for (file, workflow) in workflows() {
        for script in steps(&workflow).filter_map(|step| step["run"].as_str()) {
            assert!(!script.contains("${{"), "pass it in an environment variable: {}: {script}", file.display());
        }
    }
}

#[test]
fn the_workflows_run_targets_of_the_makefile() {
    let text = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut run = Vec::new();
    for (_, workflow) in workflows() {
        let scripts = steps(&workflow).filter_map(|step| step["run"].as_str()).flat_map(str::lines);
        run.extend(scripts.filter(|line| line.starts_with("make ") || line.starts_with(".ci/")).map(str::to_owned));
    }
    for target in run.iter().filter_map(|line| line.strip_prefix("make ")) {
        assert!(text.contains(&format!("\n{target}:")), "make {target}");
    }
    assert!(run.iter().filter(|line| *line == ".ci/run").count() >= 2, "before a merge and before a release: {run:?}");
    assert!(run.iter().any(|line| line == "make reproducible"));
    assert!(run.iter().any(|line| line == "make dist"));
}
