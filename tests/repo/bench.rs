//! The comparison of two revisions.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::docs::root;
use crate::support::tools::succeed;

fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(folder).args(["-c", "user.name=test", "-c", "user.email=test@example.com"]).args(args);
    succeed(&mut git, "")
}

/// Makes a repository with the script and with what it runs; each run appends the operator and its file to a log.
fn repository(folder: &Path, build: &str, flags: &[&str]) -> Command {
    script(&folder.join("hack/release"), build);
    script(
        &folder.join("target/debug/control-plane"),
        r#"echo "$@" | tr ' ' '\n' | grep -e /release/ -e [.]json$ >> log"#,
    );
    std::fs::copy(root().join("hack/bench-compare"), folder.join("hack/bench-compare")).unwrap();
    git(folder, &["init", "--quiet"]);
    git(folder, &["add", "hack"]);
    git(folder, &["commit", "--quiet", "--message", "Start"]);
    let mut compare = Command::new(folder.join("hack/bench-compare"));
    compare.args(["HEAD", "100", "2", "out", "musl"]).args(flags).env("CARGO_TARGET_DIR", folder.join("target"));
    compare
}

#[test]
fn two_revisions_are_measured_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(&mut repository(folder, "exit 0", &[]), "");
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let (this, mut expected) = (folder.join("target/musl").display().to_string(), Vec::new());
    for (pair, name) in [("1", "other"), ("1", "this"), ("2", "other"), ("2", "this")] {
        for host in ["", "-one-host"] {
            expected.push((name == "this", format!("out/100-{pair}-{name}{host}.json")));
        }
    }
    let runs: Vec<_> = lines.chunks(2).map(|run| (run[0].starts_with(&this), run[1].to_owned())).collect();
    assert_eq!(runs, expected);
    assert_eq!(git(folder, &["worktree", "list"]).lines().count(), 1);
}

#[test]
fn who_chooses_measurements_gets_none_of_one_host() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(&mut repository(folder, "exit 0", &["--only", "restart"]), "");
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    assert!(log.contains("out/100-1-this.json") && !log.contains("one-host"), "{log}");
}

#[test]
fn the_worktree_is_removed_when_the_build_fails() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let compared = repository(folder, "exit 3", &[]).output().unwrap();
    assert_eq!(compared.status.code(), Some(3), "{compared:?}");
    assert_eq!(git(folder, &["worktree", "list"]).lines().count(), 1);
    let commit = git(folder, &["rev-parse", "HEAD"]);
    let kept = folder.join("target/compare").join(commit.trim());
    assert!(!kept.join("tree").exists(), "{compared:?}");
}

/// Writes the measurements of one run, all with the same value.
fn measured(folder: &Path, resources: usize, name: &str, value: f64) {
    // With many resources, some were left out.
    let hosts = if resources > 100 { 1 } else { 2 };
    for (file, prefix) in [("", ""), ("-one-host", "one_host_")].into_iter().take(hosts) {
        let names = ["memory_per_resource", "creation_rate", "renewal_rate", "late", "renewal_etcd_reads"];
        let one = |name: &str| (format!("{prefix}{name}"), json!({"value": value, "unit": "x"}));
        let all: serde_json::Map<_, _> = names.into_iter().map(one).collect();
        let run = json!({"resources": resources, "version": "0", "date": "2026-01-01", "cores": 2, "loadAtEnd": "0",
                         "measurements": all});
        std::fs::write(folder.join(format!("{resources}-{name}{file}.json")), run.to_string()).unwrap();
    }
}

#[test]
fn a_comparison_has_the_median_of_the_ratios_in_pairs_for_each_size() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (pair, other, this) in [(1, 10.0, 14.0), (2, 20.0, 30.0), (3, 40.0, 8.0)] {
        measured(folder, 100, &format!("{pair}-other"), other);
        measured(folder, 100, &format!("{pair}-this"), this);
    }
    measured(folder, 1000, "1-other", 8.0);
    measured(folder, 1000, "1-this", 4.0);
    std::fs::write(folder.join("performance.md"), "before\n<!-- comparison -->\n<!-- end of comparison -->\nafter\n")
        .unwrap();
    git(folder, &["init", "--quiet"]);
    git(folder, &["commit", "--quiet", "--allow-empty", "--message", "Start"]);
    let mut report = Command::new("python3");
    report.arg(root().join("hack/bench-report")).args([folder, folder]).arg("HEAD").current_dir(folder);
    succeed(&mut report, "");
    let page = std::fs::read_to_string(folder.join("performance.md")).unwrap();
    for row in [
        "| Creations a second, one host | 20 x | 14 x | 1.40 (0.20 to 1.50) | ≥ 1.35, holds |",
        "| Memory for each resource | 20 x | 14 x | 1.40 (0.20 to 1.50) | ≤ 0.5, missed |",
        "| Renewals due while all are created on one host: the latest | 20 x | 14 x | 1.40 (0.20 to 1.50) | ≤ 10 s, missed |",
        "| Memory for each resource | 8 x | 4 x | 0.50 (0.50 to 0.50) | ≤ 0.5, holds |",
    ] {
        assert!(page.lines().any(|line| line == row), "{row}\n{page}");
    }
    assert!(page.starts_with("before\n") && page.ends_with("after\n") && !page.contains("CPU"), "{page}");
}
